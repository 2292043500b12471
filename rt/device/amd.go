package device

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// amd finds the cards of the kernel's compute driver. Its topology lists CPUs and GPUs as nodes; a GPU has SIMDs.
func (m *machine) amd() (cards []card) {
	const dir = "sys/class/kfd/kfd/topology/nodes"
	for _, node := range m.list(dir) {
		p := m.properties(path.Join(dir, node, "properties"))
		if p["simd_count"] == 0 {
			continue
		}
		loc, domain := p["location_id"], p["domain"]
		pci := fmt.Sprintf("%04x:%02x:%02x.%d", domain, loc>>8&0xff, loc>>3&0x1f, loc&7)
		c := card{GPU: GPU{Kind: "amd", Model: m.read(path.Join(dir, node, "name")), Minor: int(p["drm_render_minor"]), PCI: pci, NUMA: m.pciNUMA(pci)}}
		if id := p["unique_id"]; id != 0 {
			c.ID = fmt.Sprintf("GPU-%016x", id) // the form that ROCR_VISIBLE_DEVICES reads
		}
		for _, bank := range m.list(path.Join(dir, node, "mem_banks")) {
			b := m.properties(path.Join(dir, node, "mem_banks", bank, "properties"))
			c.Memory += b["size_in_bytes"]
		}
		c.node = fmt.Sprintf("dev/dri/renderD%d", c.Minor)
		c.refused = m.open(c.node)
		c.opens = c.refused == nil
		cards = append(cards, c)
	}
	slices.SortStableFunc(cards, func(a, b card) int { return cmp.Compare(a.PCI, b.PCI) })
	place := 0
	for i := range cards {
		if cards[i].ID == "" { // consumer cards have no unique number
			cards[i].ID = strconv.Itoa(place)
		}
		if cards[i].opens {
			place++
		}
	}
	return cards
}

// properties are lines of a name and a number.
func (m *machine) properties(name string) map[string]uint64 {
	out := make(map[string]uint64)
	for line := range strings.Lines(m.read(name)) {
		if f := strings.Fields(line); len(f) == 2 {
			if n, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				out[f[0]] = n
			}
		}
	}
	return out
}
