package agent

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/native"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Of a node's devices maniple-native is asked for those that NVIDIA's driver knows, and is not started for others.
func TestDevicesAreAskedFor(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &native.Client{Path: self}
	defer c.Close()
	got, err := devices(t.Context(), c, []*fb.DeviceT{
		{Id: "GPU-a", Kind: "nvidia", Pci: "0000:3b:00.0"}, {Id: "gpu-0", Kind: "declared"}, {Id: "MIG-b", Kind: "mig"},
	})
	if err != nil || string(got) != `"devices GPU-a,0000:3b:00.0,MIG-b"` {
		t.Errorf("%s, %v", got, err)
	}
	none := &native.Client{Path: "/nowhere"}
	if got, err := devices(t.Context(), none, []*fb.DeviceT{{Id: "gpu-0", Kind: "declared"}}); err != nil || string(got) != `{"version":1,"devices":{}}` {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := devices(t.Context(), &native.Client{}, []*fb.DeviceT{{Id: "GPU-a", Kind: "nvidia"}}); err == nil || !strings.Contains(err.Error(), "no maniple-native beside") {
		t.Error(err)
	}
}

// Drivers that have said goodbye use nothing; workers of one that is gone are told apart from programs.
func TestWhoIsAttached(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.conns[5] = &workConn{process: 5, kind: fb.AttachKindDriver, name: "b.py", pid: 50, job: 5}
	d.conns[3] = &workConn{process: 3, kind: fb.AttachKindDriver, name: "a.py", pid: 30, job: 3}
	d.conns[4] = &workConn{process: 4, kind: fb.AttachKindDriver, name: "gone.py", job: 4, through: true}
	d.conns[6] = &workConn{process: 6, kind: fb.AttachKindWorker, name: "w", job: 3}
	d.templates = append(d.templates, &template{group: d.mint()})
	text, err := json.Marshal(d.drivers())
	want := `{"attached":[{"name":"a.py","pid":30,"job":3},{"name":"b.py","pid":50,"job":5}],"workers":["` + d.templates[0].group.String() + `"]}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
}

// Who asks for all nodes meets one that is just coming up.
func TestAskedBeforeItHasANumber(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.core, d.agent = nil, 0
	if idle, drivers := d.idle(), d.drivers(); len(idle) > 0 || len(drivers.Attached)+len(drivers.Workers) > 0 {
		t.Errorf("%v, %+v", idle, drivers)
	}
}
