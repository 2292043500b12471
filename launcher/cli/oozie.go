package cli

import (
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/yarn/conf"
)

// oozieTags are the tags by which Oozie finds, and kills, what the command of an action has started: those of the configuration of the action
// that it names to the command. There are none elsewhere.
func oozieTags(getenv func(string) string) ([]string, error) {
	file := getenv("OOZIE_ACTION_CONF_XML")
	if file == "" {
		return nil, nil
	}
	action := conf.New()
	if err := action.AddFile(file); err != nil {
		return nil, &Fault{
			Name: "CONFIG", What: "OOZIE_ACTION_CONF_XML", Why: plain(err) + ": without its tags Oozie would not find the application to kill it",
			Do: "unset it if this is no action of Oozie's", Err: err,
		}
	}
	var tags []string
	for _, tag := range action.Strings("oozie.child.mapreduce.job.tags") {
		if tag = strings.ToLower(tag); !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}
