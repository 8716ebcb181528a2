// One identity's twin upstream: what is desired is written to the devices, and what these say is reported.
//
// Invariants
// - A desired version is taken once; one that does not follow the last has the whole twin fetched.
// - What is due is on the disk before a device is touched, and what is to be reported before the peer is told. Each write has an id
//   in the record of commands, so that over a restart none is done twice.
// - What a device could not take because it was away or busy stays due until it can, with the peer or without. A device never waits
//   for another one.
// - One request is under way on a connection; what changes meanwhile goes together with the next.

import type { Clock } from '../core/clock.ts';
import { isDeviceId, isReachable, type DeviceId } from '../core/device.ts';
import { errorText } from '../core/errors.ts';
import type { StateSpace } from '../core/state.ts';
import type { TwinLink } from '../core/twin-link.ts';
import type { DeviceRegistry, RegisteredDevice } from '../devices/device-registry.ts';
import type { Dispatcher } from '../devices/dispatcher.ts';
import { reportOf, withdrawalOf, type Outcome } from '../iothub/desired-answers.ts';
import { mergeValue } from '../iothub/twin-merge.ts';
import type { JsonObject } from '../iothub/twin-record.ts';
import type { Telemetry } from '../observe/events.ts';
import type { Random } from '../platform/random.ts';
import { writeDesired } from './desired-writer.ts';
import { readPatch } from './twin-message.ts';
import { TwinPeer } from './twin-peer.ts';
import {
  partOf,
  renew,
  reportPatch,
  settle,
  takePatch,
  takeTwin,
  withReport,
  type TwinScope,
  type TwinState,
} from './twin-state.ts';

export interface TwinSyncOptions {
  /** Whose twin it is. */
  readonly deviceId: DeviceId;
  readonly scope: TwinScope;
  /** As it was kept. */
  readonly state: TwinState;
  readonly space: StateSpace;
  readonly registry: Pick<DeviceRegistry, 'get' | 'isExpected'>;
  readonly dispatcher: Pick<Dispatcher, 'run'>;
  /** For log and audit. */
  readonly actor: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Telemetry;
}

/** What was not taken, or could not be kept, is tried again after this time. */
const AGAIN_MS = 5000;
const NOT_CARRIED: Outcome = { status: 400, reason: 'The device has a twin of its own.' };

/** A connection, and what the peer has reported there. */
interface Session {
  readonly link: TwinLink;
  readonly peer: TwinPeer;
  /** Undefined until the twin was fetched. */
  theirs: JsonObject | undefined;
  isReporting: boolean;
}

export class TwinSync {
  readonly #options: TwinSyncOptions;
  #state: TwinState;
  /** As it is on the disk. */
  #kept: TwinState;
  #saving: Promise<void> = Promise.resolve();
  #session: Session | undefined;
  /** Confirmed before it was known whose twin tells of it, by leaf device. */
  readonly #early = new Map<string, JsonObject>();
  /** Leaf devices that are being written to. */
  readonly #busy = new Set<string>();
  readonly #stopping = new AbortController();
  #cancelTell = (): void => {};

  constructor(options: TwinSyncOptions) {
    this.#options = options;
    this.#state = options.state;
    this.#kept = options.state;
  }

  /** Begins what was due when the process ended. */
  start(): void {
    this.#carryOutAll();
  }

  /** Ends what waits; a write that is under way is answered, and taken from its record next time. */
  stop(): void {
    this.#stopping.abort();
    this.#cancelTell();
  }

  /** A connection stands: what was desired meanwhile is fetched, what was not reported is. */
  open(link: TwinLink): void {
    const { clock, random } = this.#options;
    const onFailed = (reason: string): void => this.#fail(reason);
    const peer = new TwinPeer({ link, clock, random, signal: this.#stopping.signal, onFailed });
    const session = { link, peer, theirs: undefined, isReporting: false };
    this.#session = session;
    for (const [leafId, values] of this.#early) this.confirmed(leafId, values);
    this.#early.clear();
    void this.#fetch(session);
  }

  /** A patch came. */
  desired(link: TwinLink, payload: Uint8Array, version: number): void {
    const session = this.#session;
    if (session?.link !== link) return;
    session.peer.heardOf(version);
    // What is being fetched may have it already.
    if (session.peer.isFetching || version <= this.#state.version) return;
    const patch = version === this.#state.version + 1 ? this.#read(() => readPatch(payload)) : undefined;
    if (patch === undefined) {
      void this.#fetch(session);
      return;
    }
    this.#state = takePatch(this.#state, this.#options.scope, patch, version);
    this.#carryOutAll();
  }

  /** A leaf device shows itself, or is back. */
  seen(leafId: string): void {
    void this.#carryOut(leafId);
  }

  /** Values that a device confirmed, whoever had them written. */
  confirmed(leafId: string, values: JsonObject): void {
    const link = this.#session?.link;
    if (link === undefined) {
      this.#early.set(leafId, { ...this.#early.get(leafId), ...values });
      return;
    }
    if (this.#options.scope === 'gateway' && !link.carries(leafId)) return;
    this.#report(leafId, values);
    void this.#tell();
  }

  async #fetch(session: Session): Promise<void> {
    const isTaken = await session.peer.fetch((twin) => {
      this.#state = takeTwin(this.#state, this.#options.scope, twin);
      session.theirs = twin.reported;
    });
    if (!isTaken) return;
    this.#carryOutAll();
    void this.#tell();
  }

  #carryOutAll(): void {
    for (const leafId of Object.keys(this.#state.due)) void this.#carryOut(leafId);
  }

  /** Never rejects. */
  async #carryOut(leafId: string): Promise<void> {
    if (this.#busy.has(leafId)) return;
    this.#busy.add(leafId);
    try {
      while (!this.#stopping.signal.aborted && (await this.#carryOutRound(leafId)));
    } catch (error) {
      this.#fail(errorText(error));
      this.#again(leafId);
    } finally {
      this.#busy.delete(leafId);
    }
  }

  /** Writes what is due by now; resolves whether there may be more. @throws GatewayError as `StateSpace.write`. */
  async #carryOutRound(leafId: string): Promise<boolean> {
    const rounds = this.#state.due[leafId];
    if (rounds === undefined) return false;
    await this.#save();
    const device = isDeviceId(leafId) ? this.#options.registry.get(leafId) : undefined;
    const refusal = this.#refusalOf(leafId, device);
    if (refusal !== undefined) {
      this.#answer(leafId, Object.fromEntries(Object.keys(rounds).map((name) => [name, refusal])), device);
      // One that has not shown itself yet may do so.
      if (refusal.status !== 404) this.#state = settle(this.#state, leafId, rounds);
      void this.#tell();
      return false;
    }
    if (device === undefined || !isReachable(device.state)) return false;
    const { scope, dispatcher, actor } = this.#options;
    const desired = partOf(scope, leafId, this.#state.desired);
    const roundOf = (name: string): number | undefined => this.#state.due[leafId]?.[name];
    const { outcomes, notTaken } = await writeDesired({ dispatcher, actor, device, desired, rounds, roundOf });
    if (this.#stopping.signal.aborted) return false;
    this.#answer(leafId, outcomes, device);
    this.#state = settle(this.#state, leafId, rounds);
    if (notTaken.length > 0) {
      this.#state = renew(this.#state, leafId, notTaken);
      this.#again(leafId);
    }
    void this.#tell();
    return notTaken.length === 0;
  }

  /** Why nothing is written to a device, for as long as it is so. */
  #refusalOf(leafId: string, device: RegisteredDevice | undefined): Outcome | undefined {
    if (this.#options.scope === 'gateway' && this.#session?.link.carries(leafId) === false) return NOT_CARRIED;
    if (device !== undefined || (isDeviceId(leafId) && this.#options.registry.isExpected(leafId))) return undefined;
    return { status: 404, reason: `There is no running device "${leafId.slice(0, 128)}".` };
  }

  #answer(leafId: string, outcomes: Readonly<Record<string, Outcome>>, device: RegisteredDevice | undefined): void {
    const { scope } = this.#options;
    const desired = partOf(scope, leafId, this.#state.desired);
    const reported = mergeValue({}, partOf(scope, leafId, this.#state.reported));
    // Of what is not desired any more nothing is told, unless a device took it.
    const told = Object.entries(outcomes).filter(
      ([name, { status }]) => Object.hasOwn(desired, name) || (status === 200 && device !== undefined),
    );
    this.#report(leafId, {
      ...withdrawalOf(desired, reported),
      ...reportOf(Object.fromEntries(told), reported, this.#state.version),
    });
  }

  /** What no twin takes is left out, and told in the log. */
  #report(leafId: string, patch: JsonObject): void {
    const { scope } = this.#options;
    for (const [name, value] of Object.entries(patch)) {
      try {
        this.#state = withReport(this.#state, scope, leafId, { [name]: value });
      } catch (error) {
        this.#fail(`"${name.slice(0, 128)}" of "${leafId}" is not reported: ${errorText(error)}`);
      }
    }
  }

  /** Keeps what is to be reported, and tells it while there is a connection. Never rejects. */
  async #tell(): Promise<void> {
    const session = this.#session;
    try {
      await this.#save();
    } catch (error) {
      this.#fail(errorText(error));
      this.#cancelTell();
      this.#cancelTell = this.#options.clock.after(AGAIN_MS, () => void this.#tell());
      return;
    }
    if (session === undefined || session.isReporting) return;
    session.isReporting = true;
    try {
      await this.#reportTo(session);
    } catch (error) {
      this.#fail(errorText(error));
    } finally {
      session.isReporting = false;
    }
  }

  async #reportTo(session: Session): Promise<void> {
    while (session.theirs !== undefined && !session.link.signal.aborted && !this.#stopping.signal.aborted) {
      const patch = reportPatch(this.#options.scope, this.#state.reported, session.theirs);
      if (Object.keys(patch).length === 0) return;
      await this.#save();
      await session.peer.ask(() => session.link.report(Buffer.from(JSON.stringify(patch))));
      // What the peer refuses is not offered again on this connection.
      session.theirs = mergeValue(session.theirs, patch);
    }
  }

  /** Durable when it resolves. @throws GatewayError as `StateSpace.write`. */
  async #save(): Promise<void> {
    const { deviceId, space } = this.#options;
    this.#saving = this.#saving
      .catch(() => {})
      .then(async () => {
        const state = this.#state;
        if (state === this.#kept || this.#stopping.signal.aborted) return;
        await space.write([{ key: deviceId, value: Buffer.from(JSON.stringify(state)) }]);
        this.#kept = state;
      });
    await this.#saving;
  }

  #again(leafId: string): void {
    this.#options.clock.after(AGAIN_MS, () => void this.#carryOut(leafId));
  }

  /** What a peer sent; undefined, and told, where it cannot be read. */
  #read<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      this.#fail(errorText(error));
      return undefined;
    }
  }

  #fail(error: string): void {
    const { deviceId, telemetry } = this.#options;
    if (this.#stopping.signal.aborted) return;
    telemetry.emit('twin_not_synchronised', { key: deviceId, device: deviceId, error });
  }
}
