package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/maniple-hpc/maniple/rt/native"
)

// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "stubs.h"
import "C"

// library is NVML, which comes with the driver.
const library = "libnvidia-ml.so.1"

// began tells that NVML is loaded and began. It stays so: to begin costs up to seconds where no daemon keeps the driver awake.
var began bool

// begin loads NVML. Nothing else of it is called before that went well.
func begin() error {
	if began {
		return nil
	}
	path := C.CString(library)
	defer C.free(unsafe.Pointer(path))
	if why := C.load_nvml(path); why != nil {
		return fmt.Errorf("NVML can't be loaded: %s", C.GoString(why))
	}
	if ret := nvml.Init(); ret != nvml.SUCCESS {
		return fmt.Errorf("NVML does not begin: %s", text(ret))
	}
	began = true
	return nil
}

// text is what NVML calls an error.
func text(ret nvml.Return) string { return strings.TrimSpace(nvml.ErrorString(ret)) }

// devices asks NVML of the GPUs that only names, by ID or place on the bus; nil: of all that it shows.
func devices(only []string) (d native.Devices) {
	if err := begin(); err != nil {
		d.Error = err.Error()
		return d
	}
	d.Driver, _ = nvml.SystemGetDriverVersion()
	n, ret := nvml.DeviceGetCount()
	if ret != nvml.SUCCESS {
		d.Error = "NVML does not count the GPUs: " + text(ret)
		return d
	}
	var cards []card
	for i := range n {
		device, ret := nvml.DeviceGetHandleByIndex(i)
		if ret == nvml.ERROR_NO_PERMISSION {
			continue // another job's
		}
		c := card{device: device, GPU: native.GPU{Minor: -1, Busy: -1, MemoryBusy: -1, Temperature: -1, Power: -1, PowerLimit: -1, Errors: -1}}
		if ret != nvml.SUCCESS {
			c.Trouble = []string{fmt.Sprintf("GPU %d can't be opened: %s", i, text(ret))}
			if only == nil {
				cards = append(cards, c)
			}
			continue
		}
		c.identify()
		c.slices(only)
		if only == nil || slices.Contains(only, c.ID) || slices.Contains(only, c.PCI) || len(c.Slices) > 0 {
			cards = append(cards, c)
		}
	}
	slices.SortStableFunc(cards, func(a, b card) int { return cmp.Compare(a.PCI, b.PCI) })
	for i := range cards {
		if cards[i].device != nil {
			cards[i].measure()
			cards[i].examine()
			cards[i].nvlinks(cards)
		}
	}
	for i := range cards {
		cards[i].reach(cards, i)
		d.GPUs = append(d.GPUs, cards[i].GPU)
	}
	return d
}

// card is a GPU while it is asked about.
type card struct {
	native.GPU
	device   nvml.Device    // nil: it can't be asked
	direct   map[string]int // links that are up, by where on the bus they end
	switched int            // and those that end in a switch
}

// identify says which one it is.
func (c *card) identify() {
	c.ID, _ = c.device.GetUUID()
	c.Model, _ = c.device.GetName()
	if p, ret := c.device.GetPciInfo(); ret == nvml.SUCCESS {
		c.PCI = bus(p)
	}
	if minor, ret := c.device.GetMinorNumber(); ret == nvml.SUCCESS {
		c.Minor = minor
	}
	if major, minor, ret := c.device.GetCudaComputeCapability(); ret == nvml.SUCCESS {
		c.Compute = fmt.Sprintf("%d.%d", major, minor)
	}
}

// bus is a place on the bus as the kernel writes it.
func bus(p nvml.PciInfo) string { return fmt.Sprintf("%04x:%02x:%02x.0", p.Domain, p.Bus, p.Device) }

// slices finds the parts of a card in MIG mode, those of only if it names such.
func (c *card) slices(only []string) {
	mode, _, ret := c.device.GetMigMode()
	if ret != nvml.SUCCESS || mode != nvml.DEVICE_MIG_ENABLE {
		return
	}
	n, _ := c.device.GetMaxMigDeviceCount()
	for i := range n {
		part, ret := c.device.GetMigDeviceHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue // so many are possible, not there
		}
		var s native.Slice
		s.ID, _ = part.GetUUID()
		if only != nil && !slices.Contains(only, s.ID) && slices.ContainsFunc(only, func(id string) bool { return strings.HasPrefix(id, "MIG-") }) {
			continue
		}
		if m, ret := part.GetMemoryInfo(); ret == nvml.SUCCESS {
			s.Memory, s.Used = m.Total, m.Used
		}
		if only == nil || slices.Contains(only, s.ID) || slices.Contains(only, c.PCI) {
			c.Slices = append(c.Slices, s)
		}
	}
}

// measure says what it does now.
func (c *card) measure() {
	if m, ret := c.device.GetMemoryInfo(); ret == nvml.SUCCESS {
		c.Memory, c.Used = m.Total, m.Used
	} else {
		c.Trouble = append(c.Trouble, "its memory can't be read: "+text(ret)) // a card that fell off the bus says so here
	}
	if u, ret := c.device.GetUtilizationRates(); ret == nvml.SUCCESS { // not of cards in MIG mode
		c.Busy, c.MemoryBusy = int(u.Gpu), int(u.Memory)
	}
	if t, ret := c.device.GetTemperature(nvml.TEMPERATURE_GPU); ret == nvml.SUCCESS {
		c.Temperature = int(t)
	}
	if mw, ret := c.device.GetPowerUsage(); ret == nvml.SUCCESS {
		c.Power = float64(mw) / 1000
	}
	if mw, ret := c.device.GetEnforcedPowerLimit(); ret == nvml.SUCCESS {
		c.PowerLimit = float64(mw) / 1000
	}
}

// slowdowns are the reasons of clocks that are held down which somebody should know of.
var slowdowns = []struct {
	bit  uint64
	text string
}{
	{0x04, "power limit"},
	{0x08, "hardware slowdown"},
	{0x20, "too hot"},
	{0x40, "far too hot"},
	{0x80, "power brake"},
}

// examine says what is wrong with it.
func (c *card) examine() {
	if mask, ret := c.device.GetCurrentClocksThrottleReasons(); ret == nvml.SUCCESS {
		for _, s := range slowdowns {
			if mask&s.bit != 0 {
				c.Slowed = append(c.Slowed, s.text)
			}
		}
	}
	if n, ret := c.device.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); ret == nvml.SUCCESS {
		if c.Errors = int64(n); n > 0 {
			c.Trouble = append(c.Trouble, fmt.Sprintf("%d memory errors that could not be corrected since the driver was loaded", n))
		}
	}
	if _, _, pending, failed, ret := c.device.GetRemappedRows(); ret == nvml.SUCCESS {
		if failed {
			c.Trouble = append(c.Trouble, "a row of its memory is bad and could not be replaced")
		}
		if pending {
			c.Trouble = append(c.Trouble, "rows of its memory are replaced with the next reset")
		}
	}
	if pending, ret := c.device.GetRetiredPagesPendingStatus(); ret == nvml.SUCCESS && pending == nvml.FEATURE_ENABLED {
		c.Trouble = append(c.Trouble, "pages of its memory are retired with the next reset")
	}
}

// nvlinks finds where the links that are up end.
func (c *card) nvlinks(all []card) {
	c.direct = map[string]int{}
	for link := range nvml.NVLINK_MAX_LINKS {
		if state, ret := c.device.GetNvLinkState(link); ret != nvml.SUCCESS || state != nvml.FEATURE_ENABLED {
			continue
		}
		p, ret := c.device.GetNvLinkRemotePciInfo(link)
		if ret == nvml.SUCCESS && slices.ContainsFunc(all, func(o card) bool { return o.PCI == bus(p) }) {
			c.direct[bus(p)]++
		} else if kind, ret := c.device.GetNvLinkRemoteDeviceType(link); ret == nvml.SUCCESS && kind == nvml.NVLINK_DEVICE_TYPE_SWITCH {
			c.switched++
		}
	}
}

// paths are NVML's levels of a common ancestor by the names that nvidia-smi has for them.
var paths = map[nvml.GpuTopologyLevel]string{
	nvml.TOPOLOGY_INTERNAL: "PIX", nvml.TOPOLOGY_SINGLE: "PIX", nvml.TOPOLOGY_MULTIPLE: "PXB",
	nvml.TOPOLOGY_HOSTBRIDGE: "PHB", nvml.TOPOLOGY_NODE: "NODE", nvml.TOPOLOGY_SYSTEM: "SYS",
}

// reach says how it gets to the others.
func (c *card) reach(all []card, at int) {
	for i := range all {
		o := &all[i]
		if i == at || c.device == nil || o.device == nil {
			continue
		}
		l := native.Link{To: o.ID, NVLink: c.direct[o.PCI]}
		if l.NVLink == 0 {
			l.NVLink = min(c.switched, o.switched)
		}
		if level, ret := c.device.GetTopologyCommonAncestor(o.device); ret == nvml.SUCCESS {
			l.Path = paths[level]
		}
		c.Links = append(c.Links, l)
	}
}
