package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/token"
	"github.com/magiconair/properties"
	"github.com/spf13/viper"

	"dill/controlplane/syntax"
)

// formats maps what a file's name ends in to the format Viper knows it by.
var formats = map[string]string{
	"toml": "toml", "yaml": "yaml", "yml": "yaml", "json": "json",
	"hcl": "hcl", "tfvars": "hcl", "env": "dotenv", "dotenv": "dotenv", "envfile": "dotenv",
	"properties": "properties", "props": "properties", "prop": "properties",
}

const wantFormat = "a file name that ends in .toml, .yaml, .yml, .json, .hcl, .env or .properties"

// codecs holds Viper's own formats and the two it no longer brings.
var codecs = func() *viper.DefaultCodecRegistry {
	r := viper.NewCodecRegistry()
	for format, codec := range map[string]viper.Codec{
		"hcl":        decodeOnly(decodeHCL),
		"properties": decodeOnly(decodeProperties),
	} {
		if err := r.RegisterCodec(format, codec); err != nil {
			panic("dill: BUG: " + err.Error())
		}
	}
	return r
}()

// formatOf returns the format of the file called path.
func formatOf(path string) (string, bool) {
	name := strings.ToLower(filepath.Base(path))
	f, ok := formats[name[strings.LastIndexByte(name, '.')+1:]]
	return f, ok
}

// decodeOnly is a viper.Codec for files that dill reads and never writes.
type decodeOnly func(b []byte, into map[string]any) error

func (d decodeOnly) Decode(b []byte, into map[string]any) error { return d(b, into) }

func (decodeOnly) Encode(map[string]any) ([]byte, error) { return nil, errors.ErrUnsupported }

// decodeProperties reads Java properties in UTF-8. References like ${name} stay
// as they are: a token may well contain one.
func decodeProperties(b []byte, into map[string]any) error {
	l := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	p, err := l.LoadBytes(b)
	if err != nil {
		return err
	}
	for _, key := range p.Keys() {
		into[key], _ = p.Get(key)
	}
	return nil
}

// decodeHCL reads HCL 1. Blocks and attributes mean the same, a block's labels
// are names of blocks inside it, and blocks of one name are one block. hcl.Decode
// would make every block a list and let the last of two attributes win.
func decodeHCL(b []byte, into map[string]any) (err error) {
	// The token package panics on a number it cannot hold, such as 1e999.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r) // syntax.Describe shows none of it
		}
	}()
	f, err := hcl.ParseBytes(b)
	if err != nil {
		return err
	}
	list, ok := f.Node.(*ast.ObjectList)
	if !ok {
		return errors.New("no object at the top")
	}
	return hclObject(list, into)
}

func hclObject(list *ast.ObjectList, into map[string]any) error {
	for _, item := range list.Items {
		if err := hclItem(item, into); err != nil {
			return err
		}
	}
	return nil
}

func hclItem(item *ast.ObjectItem, into map[string]any) error {
	last := len(item.Keys) - 1
	if last < 0 {
		return nil // the top of JSON within HCL
	}
	for _, k := range item.Keys[:last] {
		var err error
		if into, err = hclBlock(k, into); err != nil {
			return err
		}
	}
	key := item.Keys[last]
	if object, ok := item.Val.(*ast.ObjectType); ok {
		inner, err := hclBlock(key, into)
		if err != nil {
			return err
		}
		return hclObject(object.List, inner)
	}
	name := hclName(key)
	if _, twice := into[name]; twice {
		return hclError(key, name+" is set twice")
	}
	v, err := hclValue(item.Val)
	into[name] = v
	return err
}

// hclBlock returns the block called key inside of outer, a new one the first
// time.
func hclBlock(key *ast.ObjectKey, outer map[string]any) (map[string]any, error) {
	name := hclName(key)
	switch v := outer[name].(type) {
	case nil:
		inner := map[string]any{}
		outer[name] = inner
		return inner, nil
	case map[string]any:
		return v, nil
	}
	return nil, hclError(key, name+" is a value and a block")
}

func hclName(key *ast.ObjectKey) string {
	name, _ := key.Token.Value().(string)
	return name
}

func hclValue(n ast.Node) (any, error) {
	switch n := n.(type) {
	case *ast.LiteralType:
		switch n.Token.Type {
		case token.NUMBER, token.FLOAT, token.BOOL, token.STRING, token.HEREDOC:
			v := n.Token.Value()
			if i, ok := v.(int64); ok {
				return int(i), nil
			}
			return v, nil
		}
	case *ast.ListType:
		values := make([]any, 0, len(n.List))
		for _, e := range n.List {
			v, err := hclValue(e)
			if err != nil {
				return nil, err
			}
			values = append(values, v)
		}
		return values, nil
	case *ast.ObjectType:
		inner := map[string]any{}
		return inner, hclObject(n.List, inner)
	}
	return nil, hclError(n, "a value that is no string, number, boolean, list or object")
}

func hclError(at ast.Node, reason string) error {
	return &syntax.Error{Line: at.Pos().Line, Column: at.Pos().Column, Reason: oneLine(reason)}
}

// stringKeys turns the maps that YAML has for keys that are no strings into
// maps of strings, everywhere in tree.
func stringKeys(tree any) any {
	switch t := tree.(type) {
	case map[any]any:
		m := make(map[string]any, len(t))
		for k, v := range t {
			m[fmt.Sprint(k)] = stringKeys(v)
		}
		return m
	case map[string]any:
		for k, v := range t {
			t[k] = stringKeys(v)
		}
	case []any:
		t = slices.Clone(t)
		for i, v := range t {
			t[i] = stringKeys(v)
		}
		return t
	}
	return tree
}
