// What is said of a place on disk that cannot be used: whose fault it is, and what to do.

import { errorText, GatewayError } from '../core/errors.ts';

/** No room, or none within the user's quota. */
const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT']);

/** GW_DATA_DIRECTORY for a path that cannot be created or written. */
export function unusableError(path: string, cause: unknown): GatewayError {
  const reason = errorText(cause);
  const text = isDiskFull(cause)
    ? `${path} cannot be written: the disk is full (${reason}). Make room on it; what is stored is kept.`
    : `${path} cannot be created or written (${reason}). Give the user that runs Fieldpost the right to write there, or choose another directory with --data.`;
  return new GatewayError('GW_DATA_DIRECTORY', text, { cause });
}

/** Whether an error, or what it was caused by, is that of a disk without room. */
export function isDiskFull(error: unknown): boolean {
  return systemCodes(error).some((code) => FULL.has(code));
}

/** The codes of an error and of its causes, outermost first: `LEVEL_CORRUPTION`, `ENOSPC`, … */
export function systemCodes(error: unknown): string[] {
  const codes: string[] = [];
  let current = error;
  for (let depth = 0; depth < 8 && typeof current === 'object' && current !== null; depth += 1) {
    const { code, cause } = current as { code?: unknown; cause?: unknown };
    if (typeof code === 'string') codes.push(code);
    current = cause;
  }
  return codes;
}
