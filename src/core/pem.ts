// PEM texts in configurations: certificates and keys stand there as text, usually by `!file PATH`, never as a path, so
// that a secret reference can never end up where a file name is shown.

/** RFC 7468: the line that every PEM text has. */
export const PEM_PATTERN = /-----BEGIN [A-Z0-9 ]+-----/;

/** What to tell of a text that is not PEM; with the pattern in a zod schema: `.regex(PEM_PATTERN, { error: PEM_RULE })`. */
export const PEM_RULE = 'must be PEM text (-----BEGIN …); use `!file PATH` to read it from a file';
