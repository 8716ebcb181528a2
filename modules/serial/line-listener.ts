// Whoever listens on a serial line, to its frames or to its port.

import type { FrameFault } from './framer.ts';

/** Whoever takes frames that were not asked for. */
export interface LineListener {
  accepts(frame: Buffer): boolean;
  take(frame: Buffer): void;
  /** A faulty frame that may have been its own. */
  fault(reason: FrameFault): void;
}

/** Whoever wants to know of the port. */
export interface PortListener {
  portOpened(): void;
  portLost(reason: string): void;
}
