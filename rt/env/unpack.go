package env

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrDamaged: an archive is not what its hash says, so that it is of use to nobody. Whose it is removes it.
var ErrDamaged = errors.New("it was written wrongly, or its disk has lost it")

// Unpack makes the directory of a package from its archive, if it is not there: whole or not at all. Nothing is written
// outside of it. ctx ends it between two files.
func Unpack(ctx context.Context, archive, hash, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != hash {
		return fmt.Errorf("%s is not what its name says: its SHA-256 is %s: %w", archive, got, ErrDamaged)
	}
	r, err := zip.NewReader(f, size)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "unpacking-")
	if err != nil {
		return err
	}
	if err := extract(ctx, r, temp); err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	if err := os.Rename(temp, dir); err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	return nil
}

func extract(ctx context.Context, r *zip.Reader, dir string) error {
	for _, f := range r.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !filepath.IsLocal(f.Name) {
			return fmt.Errorf("%q in the package is a path that leads out of it", f.Name)
		}
		path, mode := filepath.Join(dir, filepath.FromSlash(f.Name)), f.Mode()
		switch {
		case mode.IsDir():
			if err := os.MkdirAll(path, 0o700); err != nil {
				return err
			}
		case mode.IsRegular():
			if err := extractFile(f, path); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%q in the package is neither a file nor a directory (%v)", f.Name, mode.Type())
		}
	}
	return nil
}

func extractFile(f *zip.File, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	in, err := f.Open()
	if err != nil {
		return fmt.Errorf("%q in the package: %w", f.Name, err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.Mode()&fs.ModePerm&0o700|0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err != nil {
		err = fmt.Errorf("%q in the package: %w", f.Name, err)
	}
	return errors.Join(err, out.Close())
}
