package device

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// card is a GPU of the machine, granted or not.
type card struct {
	GPU
	node    string // its device file, below the root; "": none is needed to tell
	opens   bool
	refused error // why it doesn't open
	split   bool  // in MIG mode: only its slices can be used
}

// detectGPUs fills GPUs and HostGPUs: what the machine has, of that what the grant and the masks leave.
func (m *machine) detectGPUs(f *Facts, o *Options) error {
	if o.Node.Fake || o.Node.NoGPUs {
		f.GPUs = declared(o.Node.GPUs)
		f.HostGPUs = len(f.GPUs)
		f.declared("GPU", "declared", float64(len(f.GPUs)))
		return nil
	}
	cards, err := m.nvidia(f, o)
	if err != nil {
		return err
	}
	if len(cards) == 0 {
		cards = m.amd()
	}
	f.HostGPUs = len(cards)
	f.bound("GPU", thisMachine, float64(len(cards)))
	chosen, err := m.granted(f, cards, o)
	if err != nil {
		return err
	}
	var unnamed []int
	for _, c := range chosen {
		f.GPUs = append(f.GPUs, c.GPU)
		if _, err := strconv.Atoi(c.ID); err == nil {
			unnamed = append(unnamed, c.Minor)
		}
	}
	if len(unnamed) > 0 {
		f.warn("nothing names GPU %s: masks use numbers, which another mask would shift", formatList(unnamed))
	}
	switch want := o.Node.GPUs; {
	case want == 0 && o.Node.Grant != "":
		f.GPUs = []GPU{} // what is here was granted to others
	case want == 0:
	case want <= len(f.GPUs):
		if o.Node.Grant != "" && want < len(f.GPUs) {
			f.warn("%s granted %d GPUs and shows %d: it does not keep them apart, and programs of others may use the same", o.Node.Grant, want, len(f.GPUs))
		}
		f.GPUs = f.GPUs[:want]
		f.bound("GPU", grantedBy(&o.Node), float64(want))
	case len(cards) == 0 && !m.inSlurm():
		f.GPUs = declared(want)
		f.HostGPUs = want
		f.declared("GPU", grantedBy(&o.Node), float64(want))
		f.warn("%d GPUs are declared and none is found: programs get masks that name none", want)
	default:
		return fmt.Errorf("device: %d GPUs are declared, %d may be used: declare no more than that", want, len(f.GPUs))
	}
	f.win("GPU", func(v float64) bool { return int(v) <= len(f.GPUs) })
	return nil
}

func declared(n int) []GPU {
	out := []GPU{}
	for i := range n {
		out = append(out, GPU{ID: fmt.Sprintf("gpu-%d", i), Kind: "declared", Minor: -1, NUMA: -1})
	}
	return out
}

// accelerator is how Ray's users name a model in accelerator_type: the first word with a digit, as far as a dash ("NVIDIA A100-SXM4-80GB" is
// an A100); "" if there is none.
func accelerator(model string) string {
	for word := range strings.FieldsSeq(model) {
		if strings.ContainsAny(word, "0123456789") {
			name, _, _ := strings.Cut(word, "-")
			return strings.Map(func(r rune) rune {
				if r < '0' || r > 'z' || r > '9' && r < 'A' || r > 'Z' && r < 'a' {
					return -1 // nothing that a resource can't be called
				}
				return r
			}, name)
		}
	}
	return ""
}

// accelerators are those of all GPUs, each once.
func (f *Facts) accelerators() []string {
	var names []string
	for _, g := range f.GPUs {
		if name := accelerator(g.Model); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// granted picks the cards that this process may use. In a Slurm job that is what Slurm says, whatever opens:
// without ConstrainDevices every device of the node opens for everybody.
func (m *machine) granted(f *Facts, cards []card, o *Options) ([]card, error) {
	open := slices.DeleteFunc(slices.Clone(cards), func(c card) bool { return !c.opens })
	mask, maskName, masked := m.mask(cards)
	if m.inSlurm() {
		grants := []string{"SLURM_STEP_GPUS", "SLURM_JOB_GPUS"}
		if tasks, _ := m.env("SLURM_STEP_NUM_TASKS"); tasks != "" {
			grants = grants[:1] // the job's list is that of the batch script's node, and came along from there
		}
		grant, name := m.env(grants...)
		if n, _ := m.env("SLURM_GPUS_ON_NODE"); grant == "" || n == "0" {
			f.bound("GPU", "Slurm granted none", 0)
			return nil, nil
		}
		if masked && strings.HasPrefix(mask, "MIG-") { // the only name that slices have
			return m.slices(f, cards, mask, maskName)
		}
		numbers, ok := parseList(strings.TrimPrefix(grant, "gpu:"))
		if !ok {
			return nil, fmt.Errorf("device: %s=%s is no list of GPU numbers", name, grant)
		}
		f.bound("GPU", name, float64(len(numbers)))
		if slices.ContainsFunc(cards, func(c card) bool { return c.split || c.Kind == "mig" }) {
			return nil, fmt.Errorf("device: %s=%s counts GPUs, and those of this node are split into MIG slices: CUDA_VISIBLE_DEVICES has to name them (Slurm sets it to MIG-...)", name, grant)
		}
		chosen, err := byNumber(cards, numbers, name+"="+grant)
		if err != nil || !masked {
			return chosen, err
		}
		if part, ok := parseList(mask); ok && len(part) > 0 && len(open) > len(chosen) &&
			!slices.ContainsFunc(part, func(n int) bool { return !slices.Contains(numbers, n) }) {
			// No device cgroup hides the others, so Slurm wrote its own numbers into the mask.
			f.bound("GPU", maskName, float64(len(part)))
			return byNumber(cards, part, maskName+"="+mask)
		}
		return m.byMask(f, chosen, open, mask, maskName)
	}
	if len(cards) == 0 {
		return nil, nil // a mask from somebody's profile hides nothing here
	}
	if len(open) < len(cards) {
		f.bound("GPU", "device files that open", float64(len(open)))
	}
	if !masked {
		for _, c := range open {
			if c.split {
				return nil, fmt.Errorf("device: GPU %d (%s) is split into MIG slices and nothing names them: put nvidia-smi into PATH or set CUDA_VISIBLE_DEVICES to the slices' UUIDs", c.Minor, c.PCI)
			}
		}
		return open, nil
	}
	if strings.HasPrefix(mask, "MIG-") {
		return m.slices(f, cards, mask, maskName)
	}
	return m.byMask(f, open, open, mask, maskName)
}

// mask is the device mask of the environment, the one for the kind of cards there are. An empty one that is
// set hides all devices, which is not the same as none.
func (m *machine) mask(cards []card) (value, name string, set bool) {
	names := []string{"CUDA_VISIBLE_DEVICES"}
	if len(cards) > 0 && cards[0].Kind == "amd" {
		names = []string{"ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"}
	}
	for _, name := range names {
		if v, ok := m.lookup(name); ok {
			return strings.TrimSpace(v), name, true
		}
	}
	return "", "", false
}

// byNumber finds cards by the number of their device files, which is what Slurm counts; a card without one is
// found by its place. DEVICE-2: what is granted and isn't there, or doesn't open, is an error.
func byNumber(cards []card, numbers []int, source string) ([]card, error) {
	var out []card
	for _, n := range numbers {
		at := slices.IndexFunc(cards, func(c card) bool { return c.Minor == n })
		if at < 0 && n < len(cards) && cards[n].Kind == "amd" {
			at = n
		}
		switch {
		case at < 0:
			return nil, fmt.Errorf("device: %s grants GPU %d and this node has %s: ask the site, or start the step with --gres=none if no GPU was meant here", source, n, countCards(cards))
		case !cards[at].opens:
			return nil, fmt.Errorf("device: %s grants GPU %d and %s does not open: %w; ask the site, its device cgroup and its gres.conf disagree", source, n, cards[at].node, cards[at].refused)
		}
		out = append(out, cards[at])
	}
	return out, nil
}

func countCards(cards []card) string {
	if len(cards) == 0 {
		return "none"
	}
	var minors []int
	for _, c := range cards {
		minors = append(minors, c.Minor)
	}
	return "only " + formatList(minors)
}

// byMask narrows cards by a mask. Its numbers are places among the cards that open, in order of the bus: behind
// a device cgroup they start at 0 again, and without one all of the node's cards open.
func (m *machine) byMask(f *Facts, cards, open []card, mask, name string) ([]card, error) {
	var out []card
	numbers := false
	if lower := strings.ToLower(mask); mask != "" && lower != "nodevfiles" && lower != "none" && lower != "void" {
		for part := range strings.SplitSeq(mask, ",") {
			part = strings.TrimSpace(part)
			if part == "-1" {
				break // CUDA reads no further
			}
			pool, at := cards, -1
			if n, err := strconv.Atoi(part); err == nil {
				pool = open
				if n >= 0 && n < len(open) {
					at = n
				}
				numbers = true
			} else {
				named := func(c card) bool { return part != "" && strings.HasPrefix(c.ID, part) }
				at = slices.IndexFunc(cards, named)
				if at >= 0 && cards[at].ID != part && slices.ContainsFunc(cards[at+1:], named) {
					return nil, fmt.Errorf("device: %s=%s: %q is the beginning of several GPUs' names; write more of it", name, mask, part)
				}
			}
			if at < 0 {
				return nil, fmt.Errorf("device: %s=%s: no GPU %q here, there are %d that may be used; unset it or correct it", name, mask, part, len(open))
			}
			if !slices.ContainsFunc(cards, func(c card) bool { return c.ID == pool[at].ID }) {
				return nil, fmt.Errorf("device: %s=%s: GPU %q is not among those that were granted; unset it", name, mask, part)
			}
			if !slices.ContainsFunc(out, func(c card) bool { return c.ID == pool[at].ID }) {
				out = append(out, pool[at])
			}
		}
	}
	order, _ := m.env("CUDA_DEVICE_ORDER")
	if numbers && name == "CUDA_VISIBLE_DEVICES" && order != "PCI_BUS_ID" && slices.ContainsFunc(open, func(c card) bool { return c.Model != open[0].Model }) {
		f.warn("%s=%s counts the GPUs in the order of the bus, as nvidia-smi does; CUDA would count the fastest first, since they are of several models: set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name them", name, mask)
	}
	f.bound("GPU", name, float64(len(out)))
	slices.SortStableFunc(out, func(a, b card) int { return cmp.Or(strings.Compare(a.PCI, b.PCI), cmp.Compare(a.Minor, b.Minor)) })
	return out, nil
}

// slices are the MIG slices that a mask names. What nvidia-smi says about them is added where it is known.
func (m *machine) slices(f *Facts, cards []card, mask, name string) ([]card, error) {
	var out []card
	for part := range strings.SplitSeq(mask, ",") {
		part = strings.TrimSpace(part)
		if !strings.HasPrefix(part, "MIG-") {
			return nil, fmt.Errorf("device: %s=%s mixes MIG slices with others; name one kind", name, mask)
		}
		c := card{GPU: GPU{ID: part, Kind: "mig", Minor: -1, NUMA: -1}, opens: true}
		if at := slices.IndexFunc(cards, func(c card) bool { return c.ID == part }); at >= 0 {
			c = cards[at]
		} else if slices.ContainsFunc(cards, func(c card) bool { return c.Kind == "mig" }) {
			return nil, fmt.Errorf("device: %s=%s: nvidia-smi -L lists no slice %s", name, mask, part)
		}
		out = append(out, c)
	}
	f.bound("GPU", name, float64(len(out)))
	return out, nil
}

// open tells whether a device file opens as drivers' libraries open it. The device cgroup, the file's mode and
// a card that died all answer here.
func (m *machine) open(name string) error {
	file, err := os.OpenFile(m.path(name), os.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return file.Close()
}
