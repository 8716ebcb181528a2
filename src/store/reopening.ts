// When a store that failed is opened again, and when its failure is taken for damage.

import { errorText, GatewayError } from '../core/errors.ts';
import type { LevelHandle } from '../platform/level-handle.ts';
import { systemCodes } from '../platform/unusable.ts';
import type { Gap } from './replay.ts';

/** After three seconds of failures; see careful-opening.ts for what else must hold. */
const THOROUGH_ATTEMPT = 3;
/** The first reopening comes at once; what fails again sooner than the longest wait waits twice as long each time. */
const FIRST_MS = 1000;
const LONGEST_MS = 60_000;
/** A store that a salvage did not help waits for a person: each salvage keeps a copy of it. */
const SALVAGE_INTERVAL_MS = 3_600_000;

export interface Reopening {
  /** Take what fails for damage, if the disk itself can be written. */
  readonly thorough: boolean;
  /** Why the store is damaged though it may open; undefined: look. */
  readonly damage: string | undefined;
}

export interface Reopened {
  readonly level: LevelHandle;
  readonly salvaged: boolean;
  /** What the salvage found missing. */
  readonly gaps: readonly Gap[];
}

export class ReopeningPace {
  #reopenedAtMs = Number.NEGATIVE_INFINITY;
  #salvagedAtMs = Number.NEGATIVE_INFINITY;
  #delayMs = 0;
  #attempt = 0;
  #suspect = false;
  #damage: string | undefined;

  /** The store failed. `suspect`: it was opened for this before. Times are monotonic ms. */
  failed(cause: unknown, suspect: boolean, nowMs: number): void {
    if (nowMs - this.#reopenedAtMs > LONGEST_MS) this.#delayMs = 0;
    this.#attempt = 0;
    this.#suspect = suspect;
    this.#damage = undefined;
    this.notOpened(cause, nowMs);
  }

  /** An attempt failed: what LevelDB calls damage is salvaged next, unless that was done only lately. */
  notOpened(error: unknown, nowMs: number): void {
    if (nowMs - this.#salvagedAtMs < SALVAGE_INTERVAL_MS || !systemCodes(error).includes('LEVEL_CORRUPTION')) return;
    this.#damage ??= errorText(error);
  }

  /** The wait before the next attempt. */
  nextDelayMs(): number {
    const delayMs = this.#delayMs;
    this.#delayMs = Math.min(Math.max(delayMs * 2, FIRST_MS), LONGEST_MS);
    return delayMs;
  }

  /** How to open it next: what goes on failing is taken for damage, once. */
  next(nowMs: number): Reopening {
    this.#attempt += 1;
    const thorough = this.#attempt === 1 ? this.#suspect : this.#attempt === THOROUGH_ATTEMPT;
    const damage = this.#damage;
    this.#damage = undefined;
    // Counts also when it comes to nothing.
    if (damage !== undefined) this.#salvagedAtMs = nowMs;
    return { thorough, damage };
  }

  reopened(salvaged: boolean, nowMs: number): void {
    this.#reopenedAtMs = nowMs;
    if (salvaged) this.#salvagedAtMs = nowMs;
  }
}

export function closedError(): GatewayError {
  return new GatewayError('GW_STORE_CLOSED', 'The outbox is closed.');
}

export function writeError(cause: unknown): GatewayError {
  return new GatewayError(
    'GW_STORE_WRITE',
    `The outbox could not write (${errorText(cause)}). It is being reopened and verified; check the disk if this goes on.`,
    { cause },
  );
}
