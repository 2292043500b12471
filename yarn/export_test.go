package yarn

import "time"

// LimitLogin has a login at a DataNode last no longer than d.
func (h *HDFS) LimitLogin(d time.Duration) { h.login = d }
