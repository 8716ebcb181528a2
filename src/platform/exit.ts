// The end of the process.

/** Ends the process after `ms`, unless nothing keeps it alive until then and it ends by itself. */
export function exitWithin(ms: number, code: number): void {
  setTimeout(() => process.exit(code), ms).unref();
}
