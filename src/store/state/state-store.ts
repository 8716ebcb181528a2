// What is kept besides the messages, on LevelDB: retained messages, sessions, records of commands.
//
// Invariants
// - A write is durable when it resolves. Writes that wait while a sync is under way share the next one, in their order.
// - A write that failed is not there: its batch may have reached the disk all the same, so the entries as they were before
//   are written back before the reopened store serves anybody.
// - The store never keeps the gateway from its work: while it does not open, writes and reads fail, its health says why,
//   and it is tried again. Damage is salvaged (open-state.ts), at most once an hour.
// - Bounded: keys and bytes of each space, bytes of what waits for the disk (LIMITS).

import type { Clock } from '../../core/clock.ts';
import { errorText, GatewayError } from '../../core/errors.ts';
import { LIMITS } from '../../core/limits.ts';
import type { HealthReport } from '../../core/service.ts';
import type { StateChange, StateSpace } from '../../core/state.ts';
import type { Telemetry } from '../../observe/events.ts';
import { abortable } from '../../platform/abort.ts';
import type { LevelHandle, LevelWrite } from '../../platform/level-handle.ts';
import { ReopeningPace, type Reopening } from '../reopening.ts';
import { seal } from '../sealed.ts';
import type { OpenedState } from './open-state.ts';
import { keyBehind, readPage, sound } from './read-page.ts';
import {
  after,
  encodeValue,
  entryBytes,
  entryKey,
  metaKey,
  parseEntryKey,
  type SpaceUse,
  type Tally,
} from './records.ts';

export interface StateStats {
  readonly keys: number;
  readonly bytes: number;
  /** What the space with the most of each takes of the limits of one space. */
  readonly fullest: Readonly<SpaceUse>;
  /** Bytes of writes that wait for the disk. */
  readonly waitingBytes: number;
}

/** All spaces of the state store. */
export interface StateStore {
  /** The part of the owner of that name, which holds no NUL. */
  space(name: string): StateSpace;
  health(): HealthReport;
  stats(): StateStats;
  /** What the owner of that name keeps. */
  use(name: string): Readonly<SpaceUse>;
  /** Waits for what was written; idempotent. */
  close(): Promise<void>;
}

/** Of one space. */
export interface StateLimits {
  readonly spaceKeys: number;
  readonly spaceBytes: number;
}

export const DEFAULT_STATE_LIMITS: StateLimits = {
  spaceKeys: LIMITS.state_space_keys,
  spaceBytes: LIMITS.state_space_bytes,
};

export interface StateStoreOptions {
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  /** Default: LIMITS.state_space_… */
  readonly limits?: StateLimits;
  /** Each commit says what the spaces take, so that they need not be counted at the next open. Default false. */
  readonly keepsUse?: boolean;
  /** @throws GatewayError as `openState`. */
  readonly open: (how: Reopening) => Promise<OpenedState>;
  /** Records an orderly shutdown once the store is closed. */
  readonly markClean: (commits: number) => Promise<void>;
}

interface Call {
  readonly space: string;
  readonly changes: readonly { readonly key: Buffer; readonly value: Buffer | undefined }[];
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: GatewayError) => void;
}

/** One batch: what it changes, what stood there before, and what it makes of the spaces. */
interface Batch {
  readonly calls: Call[];
  readonly writes: Map<string, LevelWrite>;
  readonly before: Map<string, LevelWrite>;
  readonly spaces: Map<string, SpaceUse>;
  entries: number;
}

/** A read waits this long for a store that is being reopened, which usually takes a fraction of a second. */
const READ_PATIENCE_MS = 2000;
const BATCH_BYTES = 1024 * 1024;
const NO_USE: Readonly<SpaceUse> = { keys: 0, bytes: 0 };
const READ_ATTEMPTS = 3;

/** Resolves after the first attempt to open; one that failed is repeated in the background. Never rejects. */
export async function startStateStore(options: StateStoreOptions): Promise<StateStore> {
  const store = new LevelStateStore(options);
  await store.start();
  return store;
}

class LevelStateStore implements StateStore {
  readonly #options: StateStoreOptions;
  readonly #pace = new ReopeningPace();
  readonly #stop = new AbortController();
  #level: LevelHandle | undefined;
  #spaces = new Map<string, SpaceUse>();
  #tally: Tally = { commits: 0, entries: 0 };
  #waiting: Call[] = [];
  #waitingBytes = 0;
  #committing: Promise<void> | undefined;
  #recovering: Promise<void> | undefined;
  #failure: string | undefined;
  /** What a failed batch may have changed, as it was before. */
  #undo: readonly LevelWrite[] = [];
  #closing: Promise<void> | undefined;

  constructor(options: StateStoreOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    try {
      this.#adopt(await this.#options.open({ thorough: false, damage: undefined }));
    } catch (error) {
      this.#recover(error, false);
    }
  }

  space(name: string): StateSpace {
    return {
      get: (key) => this.#get(entryKey(name, key)),
      entries: (prefix = '', after, limit) =>
        this.#entries(entryKey(name, prefix), after === undefined ? undefined : entryKey(name, after), limit),
      write: (changes) => this.#submit(name, changes),
    };
  }

  health(): HealthReport {
    if (this.#failure === undefined) return { status: 'running' };
    return { status: 'failed', reason: `What is kept besides messages cannot be stored: ${this.#failure}` };
  }

  stats(): StateStats {
    let keys = 0;
    let bytes = 0;
    const fullest = { keys: 0, bytes: 0 };
    for (const use of this.#spaces.values()) {
      keys += use.keys;
      bytes += use.bytes;
      fullest.keys = Math.max(fullest.keys, use.keys);
      fullest.bytes = Math.max(fullest.bytes, use.bytes);
    }
    return { keys, bytes, fullest, waitingBytes: this.#waitingBytes };
  }

  use(name: string): Readonly<SpaceUse> {
    return this.#spaces.get(name) ?? NO_USE;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#committing;
    this.#stop.abort();
    await this.#recovering;
    if (this.#level === undefined) return;
    await this.#level.close();
    await this.#options.markClean(this.#tally.commits);
  }

  // -- writing

  #submit(space: string, changes: readonly StateChange[]): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(closedError());
    if (this.#level === undefined) return Promise.reject(writeError(this.#failure ?? 'it is being reopened'));
    let bytes = 0;
    const encoded = changes.map(({ key: text, value }) => {
      const key = entryKey(space, text);
      const stored = value === undefined ? undefined : encodeValue(key, value);
      bytes += entryBytes(key, stored ?? EMPTY);
      return { key, value: stored };
    });
    const fault = faultOf(changes) ?? this.#faultOfLine(bytes);
    if (fault !== undefined) return Promise.reject(new GatewayError('GW_STATE_FULL', fault));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ space, changes: encoded, bytes, resolve, reject });
      this.#waitingBytes += bytes;
      this.#committing ??= this.#commitAll();
    });
  }

  #faultOfLine(bytes: number): string | undefined {
    if (this.#waiting.length === 0 || this.#waitingBytes + bytes <= LIMITS.state_waiting_bytes) return undefined;
    return `${this.#waitingBytes} bytes of state already wait for the disk; write more slowly.`;
  }

  async #commitAll(): Promise<void> {
    try {
      // After the callbacks of this turn: callers that were answered together write together.
      await Promise.resolve();
      while (this.#waiting.length > 0) {
        const level = this.#level;
        if (level === undefined) return;
        await this.#commit(level, this.#takeGroup());
      }
    } finally {
      // In the same turn as the last look at the line: who came in between would wait for nobody.
      this.#committing = undefined;
    }
  }

  #takeGroup(): Call[] {
    let bytes = 0;
    let end = 0;
    for (const call of this.#waiting) {
      if (end > 0 && bytes + call.bytes > BATCH_BYTES) break;
      bytes += call.bytes;
      end += 1;
    }
    this.#waitingBytes -= bytes;
    return this.#waiting.splice(0, end);
  }

  async #commit(level: LevelHandle, group: readonly Call[]): Promise<void> {
    const batch: Batch = {
      calls: [],
      writes: new Map(),
      before: new Map(),
      spaces: new Map(),
      entries: this.#tally.entries,
    };
    const tally = (): Tally => ({
      commits: this.#tally.commits + 1,
      entries: batch.entries,
      ...this.#useOf(batch.spaces),
    });
    try {
      for (const call of group) {
        const fault = await this.#add(level, batch, call);
        if (fault === undefined) batch.calls.push(call);
        else call.reject(new GatewayError('GW_STATE_FULL', fault));
      }
      if (batch.writes.size > 0) {
        const own = { key: metaKey('tally'), value: seal(tally()) };
        await level.write([...batch.writes.values(), own], { sync: true });
      }
    } catch (error) {
      this.#undo = [...batch.before.values()];
      // Nobody writes into a store that is down: the line is closed before the first caller hears of it.
      this.#recover(error, false);
      for (const call of group) call.reject(writeError(errorText(error), error));
      return;
    }
    if (batch.writes.size > 0) this.#tally = tally();
    for (const [space, use] of batch.spaces) this.#spaces.set(space, use);
    for (const call of batch.calls) call.resolve();
  }

  #useOf(changed: ReadonlyMap<string, SpaceUse>): Pick<Tally, 'spaces'> {
    if (this.#options.keepsUse !== true) return {};
    return { spaces: Object.fromEntries([...this.#spaces, ...changed]) };
  }

  /** Adds one call to the batch, whole or not at all; returns why it cannot. */
  async #add(level: LevelHandle, batch: Batch, { space, changes }: Call): Promise<string | undefined> {
    const use = { ...(batch.spaces.get(space) ?? this.use(space)) };
    const writes = new Map<string, LevelWrite>();
    const keysBefore = use.keys;
    for (const { key, value } of changes) {
      const name = key.toString('latin1');
      if (!batch.before.has(name)) batch.before.set(name, { key, value: await level.get(key) });
      const held = (writes.get(name) ?? batch.writes.get(name) ?? batch.before.get(name))?.value;
      if (held !== undefined) {
        use.keys -= 1;
        use.bytes -= entryBytes(key, held);
      }
      if (value !== undefined) {
        use.keys += 1;
        use.bytes += entryBytes(key, value);
      }
      writes.set(name, { key, value });
    }
    const known = this.use(space);
    const { spaceKeys, spaceBytes } = this.#options.limits ?? DEFAULT_STATE_LIMITS;
    // What makes a space smaller is always taken.
    if (use.keys > spaceKeys && use.keys > known.keys) {
      return `"${space}" already keeps ${known.keys} entries; ${spaceKeys} is the most.`;
    }
    if (use.bytes > spaceBytes && use.bytes > known.bytes) {
      return `"${space}" already keeps ${known.bytes} bytes; ${spaceBytes} is the most.`;
    }
    for (const [name, write] of writes) batch.writes.set(name, write);
    batch.spaces.set(space, use);
    batch.entries += use.keys - keysBefore;
    return undefined;
  }

  // -- reading

  #get(key: Buffer): Promise<Uint8Array | undefined> {
    return this.#read(async (level) => {
      const bytes = await level.get(key);
      return bytes === undefined ? undefined : sound(key, bytes);
    });
  }

  async *#entries(
    prefix: Buffer,
    behind: Buffer | undefined,
    limit = Number.MAX_SAFE_INTEGER,
  ): AsyncIterable<readonly [string, Uint8Array]> {
    let gte = behind === undefined || Buffer.compare(behind, prefix) < 0 ? prefix : keyBehind(behind);
    const lt = after(prefix);
    for (let left = limit; left > 0;) {
      const page = await this.#read((level) => readPage(level, { gte, lt, limit: left }));
      for (const { key, value } of page) yield [parseEntryKey(key)?.key ?? '', value];
      const last = page.at(-1);
      if (last === undefined) return;
      left -= page.length;
      gte = keyBehind(last.key);
    }
  }

  /** Runs work that reads; a failure reopens the store and runs it again. @throws GatewayError GW_STORE_CLOSED, GW_STORE_OPEN. */
  async #read<T>(work: (level: LevelHandle) => Promise<T>): Promise<T> {
    let failure: unknown;
    for (let attempt = 1; attempt <= READ_ATTEMPTS; attempt += 1) {
      if (this.#closing !== undefined) throw closedError();
      const level = this.#level ?? (await this.#reopened());
      try {
        return await work(level);
      } catch (error) {
        failure = error;
        if (this.#closing === undefined && level === this.#level) this.#recover(error, attempt > 1);
      }
    }
    throw openError(errorText(failure), failure);
  }

  async #reopened(): Promise<LevelHandle> {
    const { clock } = this.#options;
    const late = new AbortController();
    const cancel = clock.after(READ_PATIENCE_MS, () => late.abort());
    await abortable(this.#recovering ?? Promise.resolve(), late.signal).catch(() => {});
    cancel();
    if (this.#closing !== undefined) throw closedError();
    if (this.#level === undefined) throw openError(this.#failure ?? 'it is being reopened');
    return this.#level;
  }

  // -- recovery

  #adopt(opened: OpenedState): void {
    const { telemetry } = this.#options;
    this.#spaces = opened.spaces;
    this.#tally = opened.tally;
    this.#level = opened.level;
    this.#failure = undefined;
    if (opened.salvage !== undefined) telemetry.emit('store_salvaged', { store: 'state', ...opened.salvage });
    if (opened.verify !== undefined) void this.#verify(opened.level, opened.verify);
  }

  /** Beside reads and writes. What is damaged is salvaged as if it had been seen at the open. Never rejects. */
  async #verify(level: LevelHandle, verify: () => Promise<string | undefined>): Promise<void> {
    let damage: string | undefined;
    try {
      damage = await verify();
    } catch (error) {
      damage = errorText(error);
    }
    if (damage === undefined || level !== this.#level || this.#closing !== undefined) return;
    this.#recover(Object.assign(new Error(damage), { code: 'LEVEL_CORRUPTION' }), false);
  }

  #recover(cause: unknown, suspect: boolean): void {
    const { clock, telemetry } = this.#options;
    const level = this.#level;
    this.#level = undefined;
    this.#failure = errorText(cause);
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (const call of waiting) call.reject(writeError(this.#failure, cause));
    this.#pace.failed(cause, suspect, clock.monotonicMs());
    telemetry.emit('state_failed', { reason: this.#failure });
    this.#recovering = this.#reopen(level).finally(() => {
      this.#recovering = undefined;
    });
  }

  async #reopen(level: LevelHandle | undefined): Promise<void> {
    const { clock, telemetry, open } = this.#options;
    await level?.close().catch(() => {});
    while (!this.#stop.signal.aborted) {
      try {
        await clock.sleep(this.#pace.nextDelayMs(), this.#stop.signal);
      } catch {
        return;
      }
      let opened: OpenedState | undefined;
      try {
        opened = await open(this.#pace.next(clock.monotonicMs()));
        this.#pace.reopened(opened.salvage !== undefined, clock.monotonicMs());
        opened = await this.#takeBack(opened);
        this.#adopt(opened);
        telemetry.emit('state_reopened');
        return;
      } catch (error) {
        await opened?.level.close().catch(() => {});
        this.#failure = errorText(error);
        this.#pace.notOpened(error, clock.monotonicMs());
        telemetry.emit('state_failed', { reason: this.#failure });
      }
    }
  }

  /** Takes back what a failed batch left on disk all the same; opened once more, which counts what is there then. */
  async #takeBack(opened: OpenedState): Promise<OpenedState> {
    if (this.#undo.length === 0) return opened;
    let { entries } = opened.tally;
    for (const { key, value } of this.#undo) {
      entries += (value === undefined ? 0 : 1) - ((await opened.level.get(key)) === undefined ? 0 : 1);
    }
    const tally = { commits: opened.tally.commits + 1, entries };
    await opened.level.write([...this.#undo, { key: metaKey('tally'), value: seal(tally) }], { sync: true });
    this.#undo = [];
    await opened.level.close();
    const again = await this.#options.open({ thorough: false, damage: undefined });
    return { ...again, salvage: again.salvage ?? opened.salvage };
  }
}

const EMPTY = new Uint8Array(0);
function faultOf(changes: readonly StateChange[]): string | undefined {
  for (const { key, value } of changes) {
    const keyBytes = Buffer.byteLength(key);
    if (keyBytes < 1 || keyBytes > LIMITS.state_key_bytes || !key.isWellFormed()) {
      return `A key of the state store has 1 to ${LIMITS.state_key_bytes} bytes of UTF-8, not ${keyBytes}.`;
    }
    if ((value?.byteLength ?? 0) > LIMITS.state_value_bytes) {
      return `A value of the state store has at most ${LIMITS.state_value_bytes} bytes, not ${value?.byteLength}.`;
    }
  }
  return undefined;
}

function closedError(): GatewayError {
  return new GatewayError('GW_STORE_CLOSED', 'The state store is closed.');
}

function writeError(reason: string, cause?: unknown): GatewayError {
  return new GatewayError(
    'GW_STORE_WRITE',
    `The state store could not write (${reason}). It is being reopened and verified; check the disk if this goes on.`,
    { cause },
  );
}

function openError(reason: string, cause?: unknown): GatewayError {
  return new GatewayError(
    'GW_STORE_OPEN',
    `The state store is not open (${reason}). It is tried again; check the disk if this goes on.`,
    { cause },
  );
}
