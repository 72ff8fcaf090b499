package postgres

// Abandoned is the statement that bounds how long a stuck replica holds the log.
const Abandoned = abandoned
