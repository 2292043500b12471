package gang

import "context"

// Run creates the gang and stands for it until its end. When ctx is done the gang is stopped. The error
// says that the end could not be learned; a gang that failed is no error but an End.
func Run(ctx context.Context, c *Client, s Spec, io IO) (End, error) { return End{}, nil }

// Report is the line for the user: "rank 2 on n2 exited with code 3 (of 4 ranks); last lines: ...",
// "" when all is well.
func (e End) Report() string { return "" }
