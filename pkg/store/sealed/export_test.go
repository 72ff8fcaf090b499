package sealed

// ResealNow is one pass of Reseal.
var ResealNow = (*Store).reseal
