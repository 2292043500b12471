package device

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// nvidia finds the cards of the NVIDIA driver: from /proc where the driver shows itself, else from device files.
// nvidia-smi is asked only for what they can't tell: the UUIDs of MIG slices, or of cards without a /proc entry.
func (m *machine) nvidia(f *Facts, o *Options) ([]card, error) {
	var cards []card
	for _, pci := range m.list("proc/driver/nvidia/gpus") {
		c := card{GPU: GPU{Kind: "nvidia", Minor: -1, NUMA: m.pciNUMA(pci), PCI: strings.ToLower(pci)}}
		for line := range strings.Lines(m.read(path.Join("proc/driver/nvidia/gpus", pci, "information"))) {
			key, value, _ := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			switch strings.TrimSpace(key) {
			case "Model":
				c.Model = value
			case "GPU UUID":
				c.ID = value
			case "Device Minor":
				if n, err := strconv.Atoi(value); err == nil {
					c.Minor = n
				}
			}
		}
		if strings.Contains(c.ID, "?") { // the driver has not looked at it yet
			c.ID = ""
		}
		cards = append(cards, c)
	}
	if len(cards) == 0 {
		for _, name := range m.list("dev") {
			if n, err := strconv.Atoi(strings.TrimPrefix(name, "nvidia")); err == nil && strings.HasPrefix(name, "nvidia") {
				cards = append(cards, card{GPU: GPU{Kind: "nvidia", Minor: n, NUMA: -1}})
			}
		}
	}
	if len(cards) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(cards, func(a, b card) int { return cmp.Or(strings.Compare(a.PCI, b.PCI), cmp.Compare(a.Minor, b.Minor)) })
	unnamed, split := false, false
	for i := range cards {
		c := &cards[i]
		c.opens = true
		if c.Minor >= 0 {
			c.node = fmt.Sprintf("dev/nvidia%d", c.Minor)
			c.refused = m.open(c.node)
			c.opens = c.refused == nil
			for _, name := range m.list(fmt.Sprintf("proc/driver/nvidia/capabilities/gpu%d/mig", c.Minor)) {
				c.split = c.split || strings.HasPrefix(name, "gi")
			}
		}
		unnamed = unnamed || c.ID == "" && c.opens
		split = split || c.split && c.opens
	}
	if unnamed || split {
		cards = m.askSMI(f, o, cards)
	}
	place := 0
	for i := range cards {
		if cards[i].ID == "" {
			// Nothing names it. CUDA's own number is left: its place among the cards that open.
			cards[i].ID = strconv.Itoa(place)
		}
		if cards[i].opens {
			place++
		}
	}
	return cards, nil
}

func (m *machine) pciNUMA(pci string) int {
	return int(m.number(path.Join("sys/bus/pci/devices", strings.ToLower(pci), "numa_node")))
}

var (
	smiCard  = regexp.MustCompile(`^GPU (\d+): (.*) \(UUID: (GPU-[^)]+)\)`)
	smiSlice = regexp.MustCompile(`^\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)`)
	profile  = regexp.MustCompile(`\.(\d+)gb`)
)

// askSMI puts names to cards from `nvidia-smi -L`, and puts the slices of a split card in its place. It lists
// the cards that it may open, in order of the bus.
func (m *machine) askSMI(f *Facts, o *Options, cards []card) []card {
	text, err := m.smi(o, "-L")
	if err != nil {
		f.warn("nvidia-smi can't be asked: %v", err)
		return cards
	}
	open := -1 // index in cards of the line's card
	var out []card
	done := 0
	for line := range strings.Lines(text) {
		if hit := smiCard.FindStringSubmatch(line); hit != nil {
			at := slices.IndexFunc(cards, func(c card) bool { return c.ID == hit[3] })
			if at < 0 {
				for at = max(open, -1) + 1; at < len(cards) && (!cards[at].opens || cards[at].ID != ""); at++ {
				}
			}
			if at >= len(cards) {
				continue
			}
			open = at
			for done < at {
				out = append(out, cards[done])
				done++
			}
			done = at + 1
			c := cards[at]
			c.ID, c.Model = hit[3], cmp.Or(c.Model, hit[2])
			out = append(out, c)
		}
		if hit := smiSlice.FindStringSubmatch(line); hit != nil && open >= 0 {
			parent := cards[open]
			if n := len(out); n > 0 && out[n-1].Kind == "nvidia" && out[n-1].PCI == parent.PCI && out[n-1].Minor == parent.Minor {
				out = out[:n-1] // a card with slices is not used whole
			}
			c := parent
			c.GPU = GPU{ID: hit[2], Kind: "mig", Model: strings.TrimSpace(parent.Model + " MIG " + hit[1]), Minor: parent.Minor, PCI: parent.PCI, NUMA: parent.NUMA}
			c.split = false
			if gb := profile.FindStringSubmatch(hit[1]); gb != nil {
				n, _ := strconv.ParseUint(gb[1], 10, 16)
				c.Memory = n << 30
			}
			out = append(out, c)
		}
	}
	return append(out, cards[done:]...)
}

// smi runs nvidia-smi, with a deadline: on a node with a broken driver it hangs.
func (m *machine) smi(o *Options, args ...string) (string, error) {
	program := o.NvidiaSMI
	if program == "" {
		if m.root != "/" {
			return "", fmt.Errorf("no nvidia-smi given")
		}
		var err error
		if program, err = exec.LookPath("nvidia-smi"); err != nil {
			return "", fmt.Errorf("no nvidia-smi in PATH")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", program, err)
	}
	return string(out), nil
}
