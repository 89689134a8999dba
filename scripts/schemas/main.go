// Command schemas checks files against the schemas of the programs that read them.
//
//	schemas dashboards FILE…   Grafana's dashboards: members, types and values, those of panels and queries too
//	schemas compose FILE       a Compose file: the specification's schema, what it mounts, and the
//	                           provisioning files of Grafana that it mounts
//
// It prints what is wrong and ends with status 1.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Reading is strict: a member that the schema does not know is an error, and so is one that it wants and misses.
func checkDashboard(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var board dashboard.Dashboard
	// Without anything wrong it returns an empty list of errors, not nil.
	if err := board.UnmarshalJSONStrict(raw); err != nil && err.Error() != "" {
		return err
	}
	return board.Validate()
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: schemas dashboards FILE… | schemas compose FILE")
		os.Exit(2)
	}
	checks := map[string]func(string) error{"dashboards": checkDashboard, "compose": checkCompose}
	check, known := checks[os.Args[1]]
	if !known {
		fmt.Fprintf(os.Stderr, "schemas: %q is neither dashboards nor compose\n", os.Args[1])
		os.Exit(2)
	}
	plugins.RegisterDefaultPlugins()
	failed := false
	for _, path := range os.Args[2:] {
		if err := check(path); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}
