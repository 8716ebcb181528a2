// Adapters and endpoints of which a secret cannot be read: a file that comes late, a credential that was renamed. What ran with
// them before runs on without them, instead of not at all.

import type { ConfigDocument } from './document.ts';
import { type ConfigPath, formatFault, type LocatedFault, pathText } from './fault.ts';

export class UnresolvedParts {
  /** Every fault of the document, when all are of such parts; else none. */
  readonly faults: readonly LocatedFault[];
  readonly #byPart = new Map<string, string>();

  /** @param document undefined: there are none. */
  constructor(document: ConfigDocument | undefined) {
    const faults = document?.unresolved ?? [];
    const isOfParts = faults.length === document?.faults.length && faults.every(({ path }) => partPath(path));
    this.faults = isOfParts ? faults : [];
    for (const fault of this.faults) {
      const part = pathText(partPath(fault.path) ?? []);
      const before = this.#byPart.get(part);
      this.#byPart.set(part, before === undefined ? formatFault(fault) : `${before}; ${formatFault(fault)}`);
    }
  }

  /** Why the part at a path cannot run; undefined when it can. */
  faultOf(path: ConfigPath): string | undefined {
    return this.#byPart.get(pathText(path));
  }
}

/** `upstream`, `adapters.bus-1`, `endpoints.cloud-2`; undefined for a path that leads elsewhere. */
function partPath(path: ConfigPath): ConfigPath | undefined {
  if (path[0] === 'upstream') return path.slice(0, 1);
  return (path[0] === 'adapters' || path[0] === 'endpoints') && path.length > 1 ? path.slice(0, 2) : undefined;
}
