package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// The members of Grafana's provisioning files that are used here; any other is a mistake.
type datasources struct {
	APIVersion  int `yaml:"apiVersion"`
	Datasources []struct {
		Name, UID, Type, Access, URL string
		IsDefault                    bool `yaml:"isDefault"`
		JSONData                     struct {
			HTTPMethod   string `yaml:"httpMethod"`
			TimeInterval string `yaml:"timeInterval"`
		} `yaml:"jsonData"`
	}
}

type providers struct {
	APIVersion int `yaml:"apiVersion"`
	Providers  []struct {
		Name, Folder, Type    string
		DisableDeletion       bool `yaml:"disableDeletion"`
		AllowUIUpdates        bool `yaml:"allowUiUpdates"`
		UpdateIntervalSeconds int  `yaml:"updateIntervalSeconds"`
		Options               struct{ Path string }
	}
}

func loadCompose(path string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithEnv([]string{"GRAFANA_PASSWORD=only-for-the-check"}))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

// checkCompose loads the file as compose does, and looks whether each mounted file of the repository is there.
func checkCompose(path string) error {
	project, err := loadCompose(path)
	if err != nil {
		return err
	}
	for _, service := range project.Services {
		for _, volume := range service.Volumes {
			if !volume.ReadOnly {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil {
				return fmt.Errorf("%s mounts what is not there: %w", service.Name, err)
			}
		}
	}
	grafana, there := project.Services["grafana"]
	if !there {
		return fmt.Errorf("there is no service grafana")
	}
	for _, volume := range grafana.Volumes {
		if volume.Target == "/etc/grafana/provisioning" {
			return checkProvisioning(volume.Source, project, grafana)
		}
	}
	return fmt.Errorf("nothing is mounted at /etc/grafana/provisioning")
}

func checkProvisioning(folder string, project *types.Project, grafana types.ServiceConfig) error {
	var sources datasources
	if err := readStrictly(filepath.Join(folder, "datasources"), &sources); err != nil {
		return err
	}
	for _, source := range sources.Datasources {
		at, err := url.Parse(source.URL)
		if err != nil {
			return err
		}
		if _, there := project.Services[at.Hostname()]; !there {
			return fmt.Errorf("the data source %s is at %s, and no service has that name", source.Name, source.URL)
		}
	}
	var boards providers
	if err := readStrictly(filepath.Join(folder, "dashboards"), &boards); err != nil {
		return err
	}
	for _, provider := range boards.Providers {
		mounted := false
		for _, volume := range grafana.Volumes {
			mounted = mounted || volume.Target == provider.Options.Path
		}
		if !mounted {
			return fmt.Errorf("the provider %s reads %s, where nothing is mounted", provider.Name, provider.Options.Path)
		}
	}
	if sources.APIVersion != 1 || boards.APIVersion != 1 || len(sources.Datasources) == 0 || len(boards.Providers) == 0 {
		return fmt.Errorf("%s needs version 1, a data source and a provider of dashboards", folder)
	}
	return nil
}

// readStrictly reads the only file of a folder; a member that `into` lacks is an error.
func readStrictly(folder string, into any) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("%s should have one file", folder)
	}
	file, err := os.Open(files[0])
	if err != nil {
		return err
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", files[0], err)
	}
	return nil
}
