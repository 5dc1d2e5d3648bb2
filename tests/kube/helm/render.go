// Renders a Helm chart to standard output: render CHART NAMESPACE [VALUES-FILE]. It is Helm's own way, Go's text/template
// with the function library sprig and a handful of functions more; stricter: a value that is not there is an error.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func read(path string) map[string]interface{} {
	into := map[string]interface{}{}
	text, err := os.ReadFile(path)
	check(err)
	check(yaml.Unmarshal(text, &into))
	return into
}

// Tables merge, everything else is replaced; null removes a key.
func merge(base, over map[string]interface{}) {
	for key, value := range over {
		inner, isTable := value.(map[string]interface{})
		below, wasTable := base[key].(map[string]interface{})
		switch {
		case value == nil:
			delete(base, key)
		case isTable && wasTable:
			merge(below, inner)
		default:
			base[key] = value
		}
	}
}

func toYaml(value interface{}) string {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	check(encoder.Encode(value))
	return strings.TrimSuffix(out.String(), "\n")
}

func main() {
	if len(os.Args) < 3 {
		check(fmt.Errorf("usage: render CHART NAMESPACE [VALUES-FILE]"))
	}
	chart := read(filepath.Join(os.Args[1], "Chart.yaml"))
	values := read(filepath.Join(os.Args[1], "values.yaml"))
	if len(os.Args) > 3 {
		merge(values, read(os.Args[3]))
	}
	world := map[string]interface{}{
		"Values":  values,
		"Chart":   map[string]interface{}{"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
		"Release": map[string]interface{}{"Name": "pgjolt", "Namespace": os.Args[2], "Service": "Helm", "IsInstall": true},
	}
	all := template.New("chart").Option("missingkey=error")
	functions := sprig.TxtFuncMap()
	functions["toYaml"] = toYaml
	functions["include"] = func(name string, data interface{}) (string, error) {
		var out bytes.Buffer
		err := all.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	functions["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, fmt.Errorf("%s", message)
		}
		return value, nil
	}
	all.Funcs(functions)
	files, err := filepath.Glob(filepath.Join(os.Args[1], "templates", "*"))
	check(err)
	sort.Strings(files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(err)
		_, err = all.New(filepath.Base(file)).Parse(string(text))
		check(err)
	}
	for _, file := range files {
		var out bytes.Buffer
		check(all.ExecuteTemplate(&out, filepath.Base(file), world))
		if filepath.Ext(file) == ".yaml" && strings.TrimSpace(out.String()) != "" {
			fmt.Printf("---\n# Source: %s\n%s\n", filepath.Base(file), out.String())
		}
	}
}
