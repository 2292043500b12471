package exec

import "context"

// Broadcast copies a file to the same path on every node of the job that this process is in: one request
// to the controller, the rest goes between the nodes.
func (c *Client) Broadcast(ctx context.Context, from, to string) error {
	_, err := c.run(ctx, "copy "+from+" to the nodes", nil, "", "sbcast", "--preserve", from, to)
	return err
}
