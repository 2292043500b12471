package cli

import (
	"bytes"
	"encoding/json"
	"testing"
)

// What drivers say is a table; a node whose driver can't be asked says why, and one that is not up says nothing twice.
func TestGPUsAsATable(t *testing.T) {
	var d stateDevices
	if err := json.Unmarshal([]byte(`{"nodes":[
		{"name":"n1","devices":{"driver":"470.1","gpus":[
			{"id":"GPU-0","model":"NVIDIA A100","minor":0,"memory":42949672960,"used":1073741824,"busy":97,"temperature":61,"power":399.5,"power_limit":400},
			{"id":"GPU-1","minor":1,"memory":42949672960,"used":0,"busy":-1,"temperature":-1,"power":-1,"power_limit":-1,"slowed":["too hot"]},
			{"id":"GPU-2","minor":2,"memory":0,"used":0,"busy":0,"temperature":30,"power":60,"power_limit":-1,"slowed":["too hot"],"trouble":["its memory can't be read: GPU is lost"]}]}},
		{"name":"n2","devices":{"error":"NVML does not begin: Driver Not Loaded"}},
		{"name":"n3","error":"it is dead: its connection broke"},
		{"name":"n4","devices":{}}]}`), &d); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := &call{app: &app{stdout: &out}}
	c.printGPUs(&d, "")
	want := `
NODE  GPU  MODEL        MEMORY      BUSY  TEMP  POWER      STATE
n1    0    NVIDIA A100  1/40 GiB    97%   61 C  400/400 W  ok
n1    1    -            0 B/40 GiB  -     -     -          slowed: too hot
n1    2    -            0 B/0 B     0%    30 C  60 W       its memory can't be read: GPU is lost
n2: what its GPUs do is not known: NVML does not begin: Driver Not Loaded
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestWithAField(t *testing.T) {
	got, err := with(json.RawMessage(`{"version":1,"nodes":[]}`), "devices", json.RawMessage(`[7]`))
	if err != nil || string(got) != `{"devices":[7],"nodes":[],"version":1}` {
		t.Errorf("%s, %v", got, err)
	}
	if same, err := with(json.RawMessage(`{`), "devices", nil); err != nil || string(same) != `{` {
		t.Errorf("%s, %v", same, err)
	}
}
