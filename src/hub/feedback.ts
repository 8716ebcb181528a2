// Feedback on commands: records wait in the store, written in the commit that ends their command, and are handed to the service in
// batches that competing receivers lock (contract/device-semantics.md, section 2; contract/service-06, section 4).

import type { Clock } from '../core/clock.ts';
import type { FeedbackBatch, FeedbackRecord } from '../core/hub/messaging.ts';
import type { CommandOutcome } from '../core/hub/session.ts';
import { LIMITS } from '../core/limits.ts';
import type { StateChange } from '../core/state.ts';
import { iotHubError } from '../iothub/errors.ts';
import { Notifier } from '../platform/abort.ts';
import { randomUuid } from '../platform/random.ts';
import { changeOf, type HubStore } from './hub-store.ts';
import { FEEDBACK, feedbackKey } from './keys.ts';

export interface FeedbackSettings {
  /** Default 1 h. */
  readonly ttlMs: number;
  /** 5 to 300 s. */
  readonly lockMs: number;
  readonly maxDeliveryCount: number;
}

const BATCH_RECORDS = 64;
const BATCH_AFTER_MS = 15_000;

/** As it is kept. */
interface KeptRecord extends FeedbackRecord {
  readonly atMs: number;
}

interface Waiting {
  readonly number: number;
  /** Wall clock in ms. */
  readonly atMs: number;
}

interface Batch {
  readonly numbers: readonly number[];
  readonly records: readonly FeedbackRecord[];
  readonly enqueuedTimeMs: number;
  deliveryCount: number;
  lock: { readonly token: string; readonly untilMs: number } | undefined;
}

/** A record on its way: `changes` go into the commit that ends the command, `done` is called after it. */
export interface FeedbackWrite {
  readonly changes: readonly StateChange[];
  done(): void;
}

export interface Feedback {
  /** @throws GatewayError as the store. */
  prepare(records: readonly FeedbackRecord[]): Promise<FeedbackWrite>;
  receive(signal: AbortSignal): Promise<FeedbackBatch | undefined>;
  /** @throws GatewayError GW_IOTHUB DeviceMessageLockLost. */
  settle(lockToken: string, outcome: CommandOutcome): Promise<void>;
  readonly waiting: number;
}

export interface FeedbackOptions {
  readonly store: HubStore;
  readonly settings: FeedbackSettings;
  readonly clock: Clock;
  /** Records were dropped because nobody fetched them: too many, or too old. Must not throw. */
  readonly onDropped: (count: number, reason: 'full' | 'expired' | 'delivery_count') => void;
}

export function createFeedback({ store, settings, clock, onDropped }: FeedbackOptions): Feedback {
  const changed = new Notifier();
  const waiting: Waiting[] = [];
  const batches: Batch[] = [];
  let nextNumber = 1;
  let loaded: Promise<void> | undefined;

  async function load(): Promise<void> {
    const found: Waiting[] = [];
    for await (const [key, value] of store.entries(FEEDBACK)) {
      found.push({ number: Number(key.slice(FEEDBACK.length)), atMs: (value as KeptRecord).atMs });
    }
    waiting.push(...found);
    nextNumber = (found.at(-1)?.number ?? 0) + 1;
  }

  function ready(): Promise<void> {
    loaded ??= load().catch((error: unknown) => {
      loaded = undefined;
      throw error;
    });
    return loaded;
  }

  async function remove(numbers: readonly number[]): Promise<void> {
    await store.write({ changes: numbers.map((number) => ({ key: feedbackKey(number) })) });
  }

  /** What is too old goes, lost locks are given back. */
  async function tidy(): Promise<void> {
    const oldMs = clock.wallMs() - settings.ttlMs;
    const first = waiting.findIndex(({ atMs }) => atMs > oldMs);
    const old = waiting.splice(0, first === -1 ? waiting.length : first).map(({ number }) => number);
    if (old.length > 0) onDropped(old.length, 'expired');
    const now = clock.monotonicMs();
    const over = batches.filter(({ lock }) => lock !== undefined && lock.untilMs <= now);
    for (const batch of over) old.push(...returned(batch));
    const stale = batches.filter(({ lock, enqueuedTimeMs }) => lock === undefined && enqueuedTimeMs <= oldMs);
    for (const batch of stale) {
      batches.splice(batches.indexOf(batch), 1);
      onDropped(batch.numbers.length, 'expired');
      old.push(...batch.numbers);
    }
    if (old.length > 0) await remove(old);
  }

  /** A batch that was not completed; returns what is given up because it was delivered too often. */
  function returned(batch: Batch): readonly number[] {
    batch.lock = undefined;
    batch.deliveryCount += 1;
    if (batch.deliveryCount < settings.maxDeliveryCount) return [];
    batches.splice(batches.indexOf(batch), 1);
    onDropped(batch.numbers.length, 'delivery_count');
    return batch.numbers;
  }

  /** Takes what waits when it is enough, or has waited long enough. */
  async function gather(): Promise<void> {
    const now = clock.wallMs();
    const oldest = waiting[0];
    if (oldest === undefined || (waiting.length < BATCH_RECORDS && now - oldest.atMs < BATCH_AFTER_MS)) return;
    const taken = waiting.splice(0, BATCH_RECORDS);
    const records: FeedbackRecord[] = [];
    const gone: number[] = [];
    const numbers: number[] = [];
    try {
      for (const { number } of taken) {
        const kept = (await store.json(feedbackKey(number))) as KeptRecord | undefined;
        const device = kept === undefined ? undefined : await store.identity({ deviceId: kept.deviceId });
        // Feedback of a deleted device is dropped (contract/service-06, section 4).
        if (kept === undefined || device?.generationId !== kept.deviceGenerationId) {
          gone.push(number);
          continue;
        }
        const { atMs: _, ...record } = kept;
        records.push(record);
        numbers.push(number);
      }
      if (gone.length > 0) await remove(gone);
    } catch (error) {
      waiting.unshift(...taken);
      throw error;
    }
    if (records.length === 0) return;
    batches.push({ numbers, records, enqueuedTimeMs: now, deliveryCount: 0, lock: undefined });
  }

  function take(): FeedbackBatch | undefined {
    const batch = batches.find(({ lock }) => lock === undefined);
    if (batch === undefined) return undefined;
    const lock = { token: randomUuid(), untilMs: clock.monotonicMs() + settings.lockMs };
    batch.lock = lock;
    const { enqueuedTimeMs, deliveryCount, records } = batch;
    return { lockToken: lock.token, enqueuedTimeMs, deliveryCount, records };
  }

  /** How long until something may be there without anybody telling. */
  function patienceMs(): number {
    const locks = batches.flatMap(({ lock }) => (lock === undefined ? [] : [lock.untilMs - clock.monotonicMs()]));
    const oldest = waiting[0];
    const gathering = oldest === undefined ? [] : [oldest.atMs + BATCH_AFTER_MS - clock.wallMs()];
    return Math.max(10, Math.min(...locks, ...gathering, settings.ttlMs));
  }

  return {
    get waiting() {
      return batches.reduce((sum, { numbers }) => sum + numbers.length, waiting.length);
    },
    async prepare(records) {
      if (records.length === 0) return { changes: [], done: () => {} };
      await ready();
      const atMs = clock.wallMs();
      const added: Waiting[] = [];
      const changes: StateChange[] = [];
      for (const record of records) {
        const number = nextNumber;
        nextNumber += 1;
        added.push({ number, atMs });
        changes.push(changeOf(feedbackKey(number), { ...record, atMs }));
      }
      const over = waiting.length + added.length - LIMITS.hub_feedback_records;
      const dropped = over > 0 ? waiting.splice(0, over) : [];
      if (dropped.length > 0) onDropped(dropped.length, 'full');
      changes.push(...dropped.map(({ number }) => ({ key: feedbackKey(number) })));
      return {
        changes,
        done() {
          waiting.push(...added);
          changed.notify();
        },
      };
    },
    async receive(signal) {
      await ready();
      while (!signal.aborted) {
        await tidy();
        await gather();
        const batch = take();
        if (batch !== undefined) return batch;
        const woken = new AbortController();
        const cancel = clock.after(patienceMs(), () => woken.abort());
        await changed.wait(AbortSignal.any([signal, woken.signal])).catch(() => {});
        cancel();
      }
      return undefined;
    },
    async settle(lockToken, outcome) {
      const now = clock.monotonicMs();
      const batch = batches.find(({ lock }) => lock?.token === lockToken && lock.untilMs > now);
      if (batch === undefined) {
        throw iotHubError('DeviceMessageLockLost', 'The lock of the feedback is over; it is delivered again.');
      }
      if (outcome === 'abandon') {
        const givenUp = returned(batch);
        changed.notify();
        if (givenUp.length > 0) await remove(givenUp);
        return;
      }
      await remove(batch.numbers);
      const index = batches.indexOf(batch);
      if (index !== -1) batches.splice(index, 1);
    },
  };
}
