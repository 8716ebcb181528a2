// The last frames of a bus, both ways, for the person who looks for a fault on the wire. Costs nothing until watched.

import { LIMITS } from '#sdk';

export interface LoggedFrame {
  /** Monotonic ms. */
  readonly atMs: number;
  readonly direction: 'sent' | 'received';
  /** The raw bytes in hexadecimal. */
  readonly hex: string;
}

export class FrameLog {
  #frames: LoggedFrame[] = [];
  #next = 0;
  #isOn = false;

  get isOn(): boolean {
    return this.#isOn;
  }

  /** Starts afresh, or stops and forgets. */
  set isOn(on: boolean) {
    this.#isOn = on;
    this.#frames = [];
    this.#next = 0;
  }

  add(atMs: number, direction: LoggedFrame['direction'], bytes: Buffer): void {
    if (!this.#isOn) return;
    this.#frames[this.#next] = { atMs, direction, hex: bytes.toString('hex') };
    this.#next = (this.#next + 1) % LIMITS.frame_log_frames;
  }

  /** Oldest first. */
  frames(): readonly LoggedFrame[] {
    return [...this.#frames.slice(this.#next), ...this.#frames.slice(0, this.#next)];
  }
}
