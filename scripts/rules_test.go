// Package scripts holds what builds, shows and checks the repository. Its
// tests are the rules that the code keeps to and no compiler enforces.
package scripts

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is one parsed Go file of the module.
type source struct {
	path string // from the module's root, with slashes
	file *ast.File
	fset *token.FileSet
}

func (s source) dir() string  { return path.Dir(s.path) }
func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// imports returns the import paths of the file.
func (s source) imports() []string {
	var paths []string
	for _, spec := range s.file.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		paths = append(paths, p)
	}
	return paths
}

// within reports whether the file lies in dir or below it.
func (s source) within(dir string) bool {
	return s.dir() == dir || strings.HasPrefix(s.path, dir+"/")
}

// sources parses every Go file of the module, nested modules apart.
func sources(t *testing.T) []source {
	t.Helper()
	root := ".."
	var all []source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator)))
		if entry.IsDir() {
			_, nested := os.Stat(filepath.Join(name, "go.mod"))
			hidden := strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"
			if name != root && (nested == nil || hidden) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{rel, file, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("found only %d Go files: the rules would hold for nothing", len(all))
	}
	return all
}

func TestImportDirection(t *testing.T) {
	// below a directory, nothing that starts with one of these is imported.
	forbidden := map[string][]string{
		"dataplane": {
			"dill/controlplane", "dill/cmd", "dill/bench", "dill/scripts",
			"github.com/spf13/viper", "github.com/hashicorp/",
		},
		"dataplane/route": {"net/http", "golang.org/x/sys", "github.com/panjf2000/gnet"},
		"controlplane":    {"dill/cmd", "dill/bench", "dill/scripts"},
	}
	for _, s := range sources(t) {
		for dir, prefixes := range forbidden {
			if !s.within(dir) {
				continue
			}
			for _, imported := range s.imports() {
				for _, prefix := range prefixes {
					if strings.HasPrefix(imported, prefix) {
						t.Errorf("%s imports %s, which nothing in %s may", s.path, imported, dir)
					}
				}
			}
		}
	}
}

func TestSyscallsBehindOnePackage(t *testing.T) {
	for _, s := range sources(t) {
		if s.within("dataplane") && s.dir() != "dataplane/internal/sys" && slices.Contains(s.imports(), "golang.org/x/sys/unix") {
			t.Errorf("%s imports golang.org/x/sys/unix; in the data plane only dataplane/internal/sys does", s.path)
		}
	}
}

func TestOnePackageCommentPerPackage(t *testing.T) {
	comments := map[string][]string{} // by directory, the files that have one
	for _, s := range sources(t) {
		if _, ok := comments[s.dir()]; !ok {
			comments[s.dir()] = nil
		}
		if s.file.Doc != nil {
			comments[s.dir()] = append(comments[s.dir()], s.path)
		}
	}
	for dir, files := range comments {
		if len(files) != 1 {
			t.Errorf("%s has %d package comments, want 1: %v", dir, len(files), files)
		}
	}
}

func TestNamesSayWhat(t *testing.T) {
	nothing := regexp.MustCompile(`^(utils?|helpers?|managers?|common|misc)$`)
	for _, s := range sources(t) {
		base := strings.TrimSuffix(strings.TrimSuffix(path.Base(s.path), ".go"), "_test")
		for _, name := range []string{s.file.Name.Name, path.Base(s.dir()), base} {
			if nothing.MatchString(name) {
				t.Errorf("%s: %q says nothing about what is in it", s.path, name)
			}
		}
	}
}

// TestNoSleepInTests allows time.Sleep only in a bubble of testing/synctest,
// where the clock is not the wall's and a sleep is exact and free: in functions
// that use synctest, and in function literals handed to one that does.
func TestNoSleepInTests(t *testing.T) {
	all := sources(t)
	bubbles := map[string]bool{} // directory/function
	eachTestFunc(all, func(s source, f *ast.FuncDecl) {
		if mentions(f, "synctest") {
			bubbles[s.dir()+"/"+f.Name.Name] = true
		}
	})
	eachTestFunc(all, func(s source, f *ast.FuncDecl) {
		if mentions(f, "synctest") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				name, ok := n.Fun.(*ast.Ident)
				return !ok || !bubbles[s.dir()+"/"+name.Name]
			case *ast.SelectorExpr:
				if n.Sel.Name == "Sleep" && isNamed(n.X, "time") {
					t.Errorf("%s: time.Sleep; wait for the condition instead", s.fset.Position(n.Pos()))
				}
			}
			return true
		})
	})
}

func eachTestFunc(all []source, do func(source, *ast.FuncDecl)) {
	for _, s := range all {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.isTest() {
				do(s, f)
			}
		}
	}
}

// mentions reports whether anything of pkg occurs in root.
func mentions(root ast.Node, pkg string) (found bool) {
	ast.Inspect(root, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		found = found || ok && isNamed(sel.X, pkg)
		return !found
	})
	return found
}

func isNamed(e ast.Expr, name string) bool {
	ident, ok := e.(*ast.Ident)
	return ok && ident.Name == name
}

func TestEveryTestedPackageChecksLeaks(t *testing.T) {
	hasMain := map[string]bool{}
	for _, s := range sources(t) {
		if !s.isTest() {
			continue
		}
		found := slices.ContainsFunc(s.file.Decls, func(d ast.Decl) bool {
			f, ok := d.(*ast.FuncDecl)
			return ok && f.Recv == nil && f.Name.Name == "TestMain"
		})
		hasMain[s.dir()] = hasMain[s.dir()] || found
	}
	for dir, ok := range hasMain {
		if !ok {
			t.Errorf("%s has tests but no TestMain, which is where leaks are looked for", dir)
		}
	}
}

// TestPortsAreNobodyElses: tests that use the network run in a network namespace
// of their own where the machine permits it, or another program may take a port
// between its choice and its use.
func TestPortsAreNobodyElses(t *testing.T) {
	network := []string{"net", "net/http", "net/http/httptest", "dill/dataplane/dptest", "dill/controlplane/consultest"}
	uses, isolates := map[string]bool{}, map[string]bool{} // by directory
	all := sources(t)
	for _, s := range all {
		if s.isTest() && slices.ContainsFunc(s.imports(), func(p string) bool { return slices.Contains(network, p) }) {
			uses[s.dir()] = true
		}
	}
	eachTestFunc(all, func(s source, f *ast.FuncDecl) {
		if f.Name.Name == "TestMain" && f.Recv == nil && (mentions(f, "dptest") || s.dir() == "dataplane/dptest") {
			isolates[s.dir()] = true
		}
	})
	for dir := range uses {
		if !isolates[dir] {
			t.Errorf("%s has tests that use the network, and a TestMain without dptest.Isolate or dptest.Main", dir)
		}
	}
}

func TestFilesStayReadable(t *testing.T) {
	const most = 500 // lines; one noun a file seldom needs 400
	for _, s := range sources(t) {
		if n := s.fset.File(s.file.Pos()).LineCount(); n > most {
			t.Errorf("%s has %d lines, more than %d", s.path, n, most)
		}
	}
}
