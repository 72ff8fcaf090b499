//go:build race

package rest

// raceFactor is how much more memory the race detector may make a program need.
const raceFactor = 2
