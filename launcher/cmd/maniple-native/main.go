// Command maniple-native is the second program of Maniple: what needs cgo and libraries of others, which it loads while it
// runs. Agents start it when they need it (package rt/native); by hand `maniple-native devices` prints what
// the NVIDIA driver says of this machine's GPUs, as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/maniple-hpc/maniple/rt/native"
)

func main() {
	if len(os.Args) >= 2 && os.Args[1] == "devices" {
		text, err := answer("devices", strings.Join(os.Args[2:], ","))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(70)
		}
		fmt.Println(string(text))
		return
	}
	fabric := newEndpoint()
	code := native.Serve(os.Args[1:], func(q native.Question, reply func([]byte, error)) {
		if strings.HasPrefix(q.What, "fabric ") {
			fabric.fabric(q, reply)
			return
		}
		reply(answer(q.What, q.ID))
	})
	fabric.close()
	os.Exit(code)
}

// answer answers an agent's question with JSON.
func answer(what, id string) ([]byte, error) {
	if what != "devices" {
		return nil, fmt.Errorf("native: %q can't be asked for; devices can", what)
	}
	var only []string
	if id != "" {
		only = strings.Split(id, ",")
	}
	return json.Marshal(map[string]any{"version": 1, "devices": devices(only)})
}
