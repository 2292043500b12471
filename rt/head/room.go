package head

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/placement"
)

// jsonRoom says at which nodes there could ever be room for something.
type jsonRoom struct {
	Version int      `json:"version"`
	Agents  []uint32 `json:"agents"` // of these
	Issued  uint32   `json:"issued"` // numbers that agents got so far: it is another one if any came meanwhile
	More    bool     `json:"more"`   // others may come: nodes that have not joined, or that died
}

// room answers for lines of amounts, in ten-thousandths, and names.
func (c *Core) room(text string) (jsonRoom, error) {
	j := jsonRoom{Version: stateVersion, Issued: c.state.nextAgent, More: !c.formed() || len(c.missing()) > 0}
	var need []placement.Resource
	for line := range strings.SplitSeq(text, "\n") {
		amount, name, _ := strings.Cut(line, " ")
		n, err := strconv.ParseInt(amount, 10, 64)
		if err != nil || name == "" {
			return j, fmt.Errorf("head: %q is no amount of something", line)
		}
		need = append(need, placement.Resource{Name: name, Amount: placement.Amount(n)})
	}
	for _, n := range c.state.nodes {
		v := c.state.view.Node(int(n.index))
		if n.dead || v == nil {
			j.More = true
			continue
		}
		fits := true
		for _, r := range need {
			fits = fits && v.Total.Get(r.Name) >= r.Amount
		}
		if fits {
			j.Agents = append(j.Agents, uint32(n.agent))
		}
	}
	return j, nil
}
