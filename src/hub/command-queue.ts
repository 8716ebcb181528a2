// The commands that wait for one device, in order, and which of them are locked by whom. No I/O; bodies stay in the store.

import type { SessionId } from '../core/hub/session.ts';

export interface QueuedCommand {
  /** Counts the commands of the device; the order. */
  readonly number: number;
  /** Wall clock in ms. */
  readonly expiresAtMs: number;
}

interface Lock {
  readonly token: string;
  /** Undefined: whoever asked over HTTPS. */
  readonly sessionId: SessionId | undefined;
  /** Monotonic ms. */
  readonly untilMs: number;
}

interface Entry extends QueuedCommand {
  lock: Lock | undefined;
}

export class CommandQueue {
  /** Tells a device from another one that had the same id. */
  readonly generationId: string;
  readonly #entries = new Map<number, Entry>();
  readonly #locked = new Map<string, Entry>();

  /** @param waiting in order. */
  constructor(generationId: string, waiting: readonly QueuedCommand[]) {
    this.generationId = generationId;
    for (const { number, expiresAtMs } of waiting) this.add({ number, expiresAtMs });
  }

  get size(): number {
    return this.#entries.size;
  }

  get locked(): number {
    return this.#locked.size;
  }

  add({ number, expiresAtMs }: QueuedCommand): void {
    this.#entries.set(number, { number, expiresAtMs, lock: undefined });
  }

  /** The first that nobody holds. */
  next(): QueuedCommand | undefined {
    for (const entry of this.#entries.values()) if (entry.lock === undefined) return entry;
    return undefined;
  }

  lock(number: number, lock: Lock): void {
    const entry = this.#entries.get(number);
    if (entry === undefined) return;
    entry.lock = lock;
    this.#locked.set(lock.token, entry);
  }

  /** What a token locks, undefined once the lock is over. */
  holding(token: string, nowMs: number): QueuedCommand | undefined {
    const entry = this.#locked.get(token);
    return entry?.lock !== undefined && entry.lock.untilMs > nowMs ? entry : undefined;
  }

  unlock(number: number): void {
    const entry = this.#entries.get(number);
    if (entry?.lock === undefined) return;
    this.#locked.delete(entry.lock.token);
    entry.lock = undefined;
  }

  remove(number: number): void {
    this.unlock(number);
    this.#entries.delete(number);
  }

  /** Locks whose time is over, and those of a session that ended. */
  release(nowMs: number, sessionId?: SessionId): void {
    for (const { number, lock } of this.#locked.values()) {
      if (lock === undefined) continue;
      if (lock.untilMs <= nowMs || (sessionId !== undefined && lock.sessionId === sessionId)) this.unlock(number);
    }
  }

  /** Past their expiry and held by nobody. */
  expired(wallMs: number): readonly QueuedCommand[] {
    return [...this.#entries.values()].filter(({ lock, expiresAtMs }) => lock === undefined && expiresAtMs <= wallMs);
  }

  all(): readonly QueuedCommand[] {
    return [...this.#entries.values()];
  }

  /** Monotonic ms at which the first lock is over. */
  nextReleaseMs(): number | undefined {
    let first: number | undefined;
    for (const { lock } of this.#locked.values()) {
      if (lock !== undefined && (first === undefined || lock.untilMs < first)) first = lock.untilMs;
    }
    return first;
  }
}
