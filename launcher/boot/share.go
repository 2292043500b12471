package boot

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Share leaves a boot document for keepers that others start, where there is no channel to them: a file
// of this user alone (0600 in 0700 directories). It holds the secret, so it is removed as soon as all
// have joined. Only `maniple demo` under srun does this.
func Share(file, state string, doc *bootdoc.Doc) error {
	if err := makePrivateBelow(filepath.Dir(file), state); err != nil {
		return err
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	return writeFile(file, data)
}

// RemoveShared removes the document and its directory.
func RemoveShared(file string) {
	(&Endpoint{path: file}).Remove()
}
