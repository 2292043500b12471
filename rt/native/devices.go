package native

// Devices is the answer to "devices": what the driver's own library says of the node's GPUs.
type Devices struct {
	Driver string `json:"driver,omitempty"` // its version
	Error  string `json:"error,omitempty"`  // it can't be asked
	GPUs   []GPU  `json:"gpus,omitempty"`   // that this process may see, in order of the bus
}

// GPU is a device, and what it does at the moment. -1 means that it does not say.
type GPU struct {
	ID          string   `json:"id"` // as in the mask: GPU-<uuid>
	Model       string   `json:"model,omitempty"`
	Minor       int      `json:"minor"` // of /dev/nvidiaN
	PCI         string   `json:"pci,omitempty"`
	Compute     string   `json:"compute,omitempty"` // capability, "9.0"
	Memory      uint64   `json:"memory"`            // bytes
	Used        uint64   `json:"used"`
	Busy        int      `json:"busy"`        // percent of the last moment in which something ran
	MemoryBusy  int      `json:"memory_busy"` // percent in which memory was read or written
	Temperature int      `json:"temperature"` // of the chip, degrees Celsius
	Power       float64  `json:"power"`       // watts
	PowerLimit  float64  `json:"power_limit"`
	Errors      int64    `json:"errors"`            // of memory, that could not be corrected, since the driver was loaded
	Slowed      []string `json:"slowed,omitempty"`  // why clocks are held down
	Trouble     []string `json:"trouble,omitempty"` // what is wrong with it
	Slices      []Slice  `json:"slices,omitempty"`  // of MIG
	Links       []Link   `json:"links,omitempty"`   // to the others, in their order
}

// Slice is a part of a GPU in MIG mode.
type Slice struct {
	ID     string `json:"id"` // MIG-<uuid>
	Memory uint64 `json:"memory"`
	Used   uint64 `json:"used"`
}

// Link is how a GPU reaches another one.
type Link struct {
	To     string `json:"to"`
	NVLink int    `json:"nvlink,omitempty"` // links that are up between the two, or into the switch that both are on
	Path   string `json:"path"`             // over the bus: PIX, PXB, PHB, NODE, SYS, as nvidia-smi calls them; "" if that is not known
}
