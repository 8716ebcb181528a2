// A fault of a configuration as people see it: file, line, path, what is wrong and what is allowed.

import { LIMITS } from '../core/limits.ts';

/** Keys and indexes from the top of the file: `['adapters', 'bus-1', 'devices', 'meter-1', 'unit_id']`. */
export type ConfigPath = readonly (string | number)[];

export interface LocatedFault {
  /** The file as the user named it. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly path: ConfigPath;
  /** What is wrong, what is allowed. Never holds a secret. */
  readonly message: string;
}

/** `adapters.bus-1.devices.meter-1.unit_id`; keys with other characters in quotes, indexes in brackets. */
export function pathText(path: ConfigPath): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else {
      const key = /^[\w$@%*?!=,:-]+$/.test(step) ? step : JSON.stringify(step);
      text += text === '' ? key : `.${key}`;
    }
  }
  return text;
}

/** `file:line: path: message`, the form of `fieldpost check`. */
export function formatFault(fault: LocatedFault): string {
  const path = fault.path.length === 0 ? '' : `${pathText(fault.path)}: `;
  return `${fault.file}:${fault.line}: ${path}${fault.message}`;
}

/** By line, then by path, without repetitions; a bounded number, and then how many more there are. */
export function sortFaults(faults: readonly LocatedFault[]): LocatedFault[] {
  const seen = new Set<string>();
  const sorted = faults
    .filter((fault) => {
      const text = formatFault(fault);
      if (seen.has(text)) return false;
      seen.add(text);
      return true;
    })
    .sort((a, b) => a.line - b.line || pathText(a.path).localeCompare(pathText(b.path)));
  const more = sorted.length - LIMITS.config_faults;
  const last = sorted[LIMITS.config_faults];
  if (last === undefined) return sorted;
  return [
    ...sorted.slice(0, LIMITS.config_faults),
    { ...last, path: [], message: `${more} more faults from here on.` },
  ];
}
