// How many bytes an endpoint may take in a month. Past it the endpoint is quiet: only urgent messages and commands pass.
//
// Invariants:
// - Counted over restarts. The store holds more than was counted, by up to one step, and the exact number after an orderly stop:
//   so a crash costs a step at most and never gives anything back, and flash is written once a step.
// - A month never begins twice. A clock that may be behind (unknown after a start without a time) begins none.

import type { Clock } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { StateSpace } from '../core/state.ts';
import { isoTime } from '../core/time.ts';
import type { Telemetry } from '../observe/events.ts';

const NEAR_SHARE = 0.8;
/** Of the budget: what a crash may cost. */
const STEP_SHARE = 0.01;
const STEP_MAX_BYTES = 1024 * 1024;
/** Clocks are set, and timers end at 24 days: the month is looked at this often at least. */
const LOOK_MS = 600_000;

export interface BudgetOptions {
  /** Of the endpoint. */
  readonly name: string;
  readonly monthlyBytes: number;
  /** 1 to 28: the day of the month on which it begins anew, at 0:00 UTC. */
  readonly resetDay: number;
  readonly state: StateSpace;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

export interface BudgetStatus {
  readonly monthlyBytes: number;
  readonly usedBytes: number;
  /** `2026-12-01`, or undefined while the clock is unknown. */
  readonly renewsOn: string | undefined;
}

interface BudgetRecord {
  /** First day of the month: `2026-11-01`. Absent: the clock was not known yet. */
  readonly month?: string | undefined;
  readonly bytes: number;
}

export class Budget {
  readonly #options: BudgetOptions;
  readonly #stepBytes: number;
  #month: string | undefined;
  #used = 0;
  /** What the store holds, or will once the write under way is done. */
  #reserved = 0;
  #isRead = false;
  #told: 'nothing' | 'near' | 'spent' = 'nothing';
  #writing: Promise<void> | undefined;
  #cancelLook = (): void => {};
  #changed = (): void => {};

  constructor(options: BudgetOptions) {
    this.#options = options;
    this.#stepBytes = Math.max(1, Math.min(STEP_MAX_BYTES, Math.floor(options.monthlyBytes * STEP_SHARE)));
  }

  /** Reads what was counted. @param changed told when the endpoint becomes quiet or a month begins. Never rejects. */
  async start(changed: () => void): Promise<void> {
    this.#changed = changed;
    await this.#read().catch((error: unknown) => this.#notKept(error));
    this.#look();
    this.#tell();
  }

  /** Keeps the exact count. Never rejects. */
  async stop(): Promise<void> {
    this.#cancelLook();
    await this.#writing;
    await this.#write(this.#used);
  }

  spend(bytes: number): void {
    this.#used += bytes;
    // Half a step before: the write is done by the time that it counts.
    if (this.#used + this.#stepBytes / 2 > this.#reserved) {
      this.#writing ??= this.#write(this.#used + this.#stepBytes).finally(() => (this.#writing = undefined));
    }
    this.#tell();
  }

  /** Only urgent messages and commands pass. */
  get isSpent(): boolean {
    return this.#used >= this.#options.monthlyBytes;
  }

  /** What is left of the month. */
  get leftBytes(): number {
    return Math.max(0, this.#options.monthlyBytes - this.#used);
  }

  status(): BudgetStatus {
    const { monthlyBytes, resetDay } = this.#options;
    const month = this.#month;
    return {
      monthlyBytes,
      usedBytes: this.#used,
      renewsOn: month === undefined ? undefined : dayOf(nextMonthMs(Date.parse(month), resetDay)),
    };
  }

  /** Begins a month when it is time, and comes back. */
  #look(): void {
    const { clock, resetDay } = this.#options;
    const nowMs = clock.wallMs();
    const quality = clock.quality();
    if (quality !== 'unknown') {
      const month = dayOf(monthStartMs(nowMs, resetDay));
      // A month that was begun by a clock ahead of the true time goes on under the right name.
      if (this.#month === undefined || (month < this.#month && quality === 'synced')) this.#month = month;
      else if (month > this.#month) this.#renew(month);
    }
    const untilNextMs = nextMonthMs(monthStartMs(nowMs, resetDay), resetDay) - nowMs;
    this.#cancelLook = clock.after(Math.min(LOOK_MS, Math.max(1, untilNextMs)), () => this.#look());
  }

  #renew(month: string): void {
    const { name, telemetry } = this.#options;
    telemetry.emit('budget_renewed', { endpoint: name, usedBytes: this.#used });
    this.#month = month;
    this.#used = 0;
    this.#reserved = 0;
    this.#told = 'nothing';
    this.spend(0);
    this.#changed();
  }

  /** Each share is told once a month, also where one message passes both. */
  #tell(): void {
    const { monthlyBytes, name, telemetry } = this.#options;
    const share = this.#used / monthlyBytes;
    if (share >= NEAR_SHARE && this.#told === 'nothing') {
      this.#told = 'near';
      telemetry.emit('budget_near', { endpoint: name, ...this.status() });
    }
    if (share < 1 || this.#told === 'spent') return;
    this.#told = 'spent';
    telemetry.emit('budget_spent', { endpoint: name, ...this.status() });
    this.#changed();
  }

  async #read(): Promise<void> {
    const { name, state } = this.#options;
    const kept = recordOf(await state.get(name));
    this.#isRead = true;
    if (kept === undefined) return;
    // Where the store opened late, something was sent meanwhile.
    if (this.#month === undefined || kept.month === undefined || this.#month === kept.month) this.#used += kept.bytes;
    this.#month ??= kept.month;
  }

  async #write(bytes: number): Promise<void> {
    const { name, state } = this.#options;
    this.#reserved = Math.max(this.#reserved, bytes);
    try {
      if (!this.#isRead) await this.#read();
      const record: BudgetRecord = { month: this.#month, bytes: Math.max(bytes, this.#used) };
      this.#reserved = record.bytes;
      await state.write([{ key: name, value: Buffer.from(JSON.stringify(record)) }]);
    } catch (error) {
      this.#notKept(error);
    }
  }

  #notKept(error: unknown): void {
    const { name, telemetry } = this.#options;
    telemetry.emit('budget_not_kept', { key: name, endpoint: name, error: errorText(error) });
  }
}

/** The 0:00 UTC of a reset day that a time comes after. */
function monthStartMs(wallMs: number, resetDay: number): number {
  const date = new Date(wallMs);
  const months = date.getUTCDate() < resetDay ? -1 : 0;
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + months, resetDay);
}

function nextMonthMs(startMs: number, resetDay: number): number {
  const date = new Date(startMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, resetDay);
}

function dayOf(wallMs: number): string {
  return isoTime(wallMs).slice(0, 10);
}

function recordOf(bytes: Uint8Array | undefined): BudgetRecord | undefined {
  if (bytes === undefined) return undefined;
  const { month, bytes: counted } = JSON.parse(Buffer.from(bytes).toString()) as Partial<BudgetRecord>;
  return typeof counted === 'number' ? { month, bytes: counted } : undefined;
}
