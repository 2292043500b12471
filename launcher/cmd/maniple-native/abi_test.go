//go:build cgo

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// libfabric.h says of libfabric's interface what its own headers say. A name that differs stands behind a colon.
func TestInterfaceOfLibfabric(t *testing.T) {
	dir, why := libfabric()
	if why != "" {
		t.Skip(why)
	}
	include := filepath.Join(dir, "../../include")
	if _, err := os.Stat(filepath.Join(include, "rdma/fabric.h")); err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{
		"fid:fid": "fclass context ops", "ops:fi_ops": "size close bind control",
		"ep_attr":           "type protocol protocol_version max_msg_size",
		"domain_attr":       "domain name threading control_progress data_progress resource_mgmt av_type mr_mode mr_key_size",
		"fabric_attr":       "fabric name prov_name",
		"info":              "next caps mode addr_format src_addrlen dest_addrlen src_addr dest_addr handle tx_attr rx_attr ep_attr domain_attr fabric_attr",
		"fabric:fid_fabric": "fid ops", "ops_fabric": "size domain",
		"av_attr": "type rx_ctx_bits count ep_per_node name map_addr flags", "av:fid_av": "fid ops", "ops_av": "size insert insertsvc insertsym remove",
		"cq_attr": "size flags format wait_obj signaling_vector wait_cond wait_set", "cq:fid_cq": "fid ops",
		"cq_error:fi_cq_err_entry": "op_context flags len buf data tag olen err prov_errno err_data err_data_size",
		"ops_cq":                   "size read readfrom readerr sread sreadfrom signal strerror",
		"mr:fid_mr":                "fid mem_desc key", "domain:fid_domain": "fid ops mr", "ops_domain": "size av_open cq_open endpoint", "ops_mr": "size reg",
		"ep:fid_ep": "fid ops cm msg rma", "ops_cm": "size setname getname", "ops_rma": "size read",
	}
	constants := "EP_RDM ENABLE CQ_FORMAT_CONTEXT THREAD_DOMAIN PROGRESS_AUTO EAVAIL RMA READ RECV SEND REMOTE_READ NUMERICHOST SOURCE CONTEXT CONTEXT2 MR_LOCAL MR_VIRT_ADDR MR_ALLOCATED MR_PROV_KEY MR_ENDPOINT VERSION(1,9)"
	var c strings.Builder
	for _, h := range []string{"fabric", "fi_domain", "fi_eq", "fi_errno", "fi_endpoint", "fi_cm", "fi_rma"} {
		fmt.Fprintf(&c, "#include <rdma/%s.h>\n", h)
	}
	c.WriteString("#include \"libfabric.h\"\n")
	for name, list := range fields {
		ours, theirs, other := strings.Cut(name, ":")
		if !other {
			theirs = "fi_" + ours
		}
		for _, f := range strings.Fields(list) {
			fmt.Fprintf(&c, "_Static_assert(offsetof(struct lf_%s, %s) == offsetof(struct %s, %[2]s) && sizeof(((struct lf_%[1]s *)0)->%[2]s) == sizeof(((struct %[3]s *)0)->%[2]s), \"%[3]s.%[2]s\");\n", ours, f, theirs)
		}
	}
	for _, name := range strings.Fields(constants) {
		fmt.Fprintf(&c, "_Static_assert((uint64_t)LF_%s == (uint64_t)FI_%[1]s, \"FI_%[1]s\");\n", name)
	}
	file := filepath.Join(t.TempDir(), "abi.c")
	if err := os.WriteFile(file, []byte(c.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-fsyntax-only", "-I", include, "-I", ".", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
