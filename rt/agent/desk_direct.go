package agent

import (
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// join gives a driver and a worker a direct line. If it can't be had, or one of them is gone, they do without.
func (d *desk) join(driver, worker *workConn, m *fb.LineT) {
	if driver == nil || worker == nil {
		return
	}
	one, other, err := uds.Pair()
	if err != nil {
		return
	}
	defer one.Close()
	defer other.Close()
	if d.sendFile(worker, m, other) == nil {
		_ = d.sendFile(driver, m, one)
	}
}
