// A fault of a configuration as people see it: file, line, path, what is wrong and what is allowed.

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

/** By line, then by path, without repetitions. */
export function sortFaults(faults: readonly LocatedFault[]): LocatedFault[] {
  const seen = new Set<string>();
  return faults
    .filter((fault) => {
      const text = formatFault(fault);
      if (seen.has(text)) return false;
      seen.add(text);
      return true;
    })
    .sort((a, b) => a.line - b.line || pathText(a.path).localeCompare(pathText(b.path)));
}
