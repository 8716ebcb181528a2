// Which commands were seen, durably: a command is marked before it is begun and its answer kept for 24 h, so that nothing
// that comes twice is done twice, whatever ends in between.

import { z } from 'zod';
import type { Clock } from '../core/clock.ts';
import type { CommandAnswer } from '../core/command.ts';
import { GatewayError } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import type { StateSpace } from '../core/state.ts';
import { elapsedMs, type Timestamp } from '../core/time.ts';

const KEPT_MS = 24 * 3_600_000;
const SWEEP_EVERY_MS = 3_600_000;
const SWEEP_WHEN_FULL_EVERY_MS = 60_000;
const DELETE_AT_ONCE = 1000;

/** `answer` is absent while the command is under way, and for ever if the gateway ended then. */
interface CommandRecord {
  readonly at: Timestamp;
  readonly answer?: CommandAnswer | undefined;
}

const recordSchema = z.object({
  at: z.object({
    bootId: z.string(),
    monotonicMs: z.number(),
    wallMs: z.number(),
    clock: z.enum(['synced', 'rtc', 'restored', 'unknown']),
  }),
  answer: z.custom<CommandAnswer>().optional(),
});

export interface CommandLedger {
  /** What is known of a command; `unknown`: it was begun and nobody knows how it ended. @throws GatewayError as `StateSpace.get`. */
  find(key: string): Promise<CommandAnswer | 'unknown' | undefined>;
  /** Durable when it resolves. @throws GatewayError GW_THROTTLED when too many are kept, else as `StateSpace.write`. */
  begin(key: string): Promise<void>;
  /** Durable when it resolves. @throws GatewayError as `begin`. */
  finish(key: string, answer: CommandAnswer): Promise<void>;
}

export function createCommandLedger({ space, clock }: { space: StateSpace; clock: Clock }): CommandLedger {
  /** Keys kept; undefined until they were counted. */
  let count: number | undefined;
  let sweptAtMs = Number.NEGATIVE_INFINITY;
  let sweeping: Promise<void> | undefined;

  async function sweep(): Promise<void> {
    sweptAtMs = clock.monotonicMs();
    let kept = 0;
    let old: { readonly key: string }[] = [];
    const now = clock.now();
    for await (const [key, value] of space.entries()) {
      if (isOver(decode(value), now)) old.push({ key });
      else kept += 1;
      if (old.length < DELETE_AT_ONCE) continue;
      await space.write(old);
      old = [];
    }
    if (old.length > 0) await space.write(old);
    count = kept;
  }

  async function makeRoom(): Promise<void> {
    const sinceMs = clock.monotonicMs() - sweptAtMs;
    const full = (count ?? 0) >= LIMITS.command_records;
    if (count === undefined || sinceMs > SWEEP_EVERY_MS || (full && sinceMs > SWEEP_WHEN_FULL_EVERY_MS)) {
      sweeping ??= sweep().finally(() => {
        sweeping = undefined;
      });
    }
    await sweeping;
    if ((count ?? 0) < LIMITS.command_records) return;
    throw new GatewayError(
      'GW_THROTTLED',
      `${LIMITS.command_records} commands of the last 24 h are remembered; that is the most. Send fewer, or without an effect on the device less often.`,
    );
  }

  async function put(key: string, record: CommandRecord): Promise<void> {
    await space.write([{ key, value: Buffer.from(JSON.stringify(record)) }]);
  }

  return {
    async find(key) {
      const record = decode(await space.get(key));
      if (record === undefined || isOver(record, clock.now())) return undefined;
      return record.answer ?? 'unknown';
    },
    async begin(key) {
      await makeRoom();
      await put(key, { at: clock.now() });
      count = (count ?? 0) + 1;
    },
    finish: (key, answer) => put(key, { at: clock.now(), answer }),
  };
}

function decode(value: Uint8Array | undefined): CommandRecord | undefined {
  if (value === undefined) return undefined;
  // The store has checked the bytes; what is not understood was written by another release, and was seen.
  const parsed = recordSchema.safeParse(JSON.parse(Buffer.from(value).toString('utf8')));
  return parsed.success ? parsed.data : { at: { bootId: '', monotonicMs: 0, wallMs: 0, clock: 'unknown' } };
}

function isOver(record: CommandRecord | undefined, now: Timestamp): boolean {
  return record !== undefined && elapsedMs(record.at, now) > KEPT_MS;
}
