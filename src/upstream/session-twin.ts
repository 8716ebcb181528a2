// The twin of a device at the local hub, kept in step with the one that it has at the cloud: desired properties come down, what the
// device reports goes up. Both are kept by the local hub; of what is under way nothing has to be.
//
// One thing after the other is done with the cloud: the twin is taken, then changed by patches that follow, then reported to.

import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import { errorText } from '../core/errors.ts';
import type { SessionTwins } from '../core/session-devices.ts';
import type { TwinLink } from '../core/twin-link.ts';
import type { Telemetry } from '../observe/events.ts';
import type { Random } from '../platform/random.ts';
import { readPatch } from './twin-message.ts';
import { TwinPeer } from './twin-peer.ts';

export interface SessionTwinOptions {
  readonly deviceId: DeviceId;
  readonly twins: SessionTwins;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Telemetry;
}

/** What could not be kept here, or read, is tried again after this time. */
const AGAIN_MS = 5000;

export class SessionTwin {
  readonly #options: SessionTwinOptions;
  readonly #stopping = new AbortController();
  #peer: TwinPeer | undefined;
  #isFetched = false;
  #isReporting = false;
  /** There may be something to report. */
  #isDue = false;
  /** What the peer of this connection has refused. */
  #refused: string | undefined;
  #turn: Promise<void> = Promise.resolve();
  readonly #waiting = new Set<() => void>();

  constructor(options: SessionTwinOptions) {
    this.#options = options;
  }

  /** A connection stands: what was desired meanwhile is fetched, what was not reported is. */
  open(link: TwinLink): void {
    const { clock, random } = this.#options;
    const peer = new TwinPeer({
      link,
      clock,
      random,
      signal: this.#stopping.signal,
      onFailed: (reason) => this.#fail(reason),
    });
    this.#peer = peer;
    this.#isFetched = false;
    this.#refused = undefined;
    void this.#fetch(peer);
  }

  /** A patch came. */
  desired(link: TwinLink, payload: Uint8Array, version: number): void {
    const peer = this.#peer;
    if (peer?.link !== link) return;
    peer.heardOf(version);
    if (peer.isFetching || !this.#isFetched) return;
    this.#inTurn(async () => {
      if (peer.signal.aborted || peer.isFetching) return;
      const patch = readPatch(payload);
      if (!(await this.#options.twins.takeDesired(this.#options.deviceId, patch, version))) void this.#fetch(peer);
    }).catch((error: unknown) => {
      this.#fail(errorText(error));
      void this.#fetch(peer);
    });
  }

  /** The device may have reported something. */
  changed(): void {
    this.#isDue = true;
    if (this.#isFetched) void this.#report();
  }

  /** Resolves when the twin here is as the peer has it, or the signal aborts. Never rejects. */
  fetched(signal: AbortSignal): Promise<void> {
    if (this.#isFetched && this.#peer?.signal.aborted === false) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        signal.removeEventListener('abort', end);
        this.#waiting.delete(end);
        resolve();
      };
      this.#waiting.add(end);
      signal.addEventListener('abort', end, { once: true });
    });
  }

  stop(): void {
    this.#stopping.abort();
    this.#told();
  }

  /** Until it was taken, or the connection has ended. Never rejects. */
  async #fetch(peer: TwinPeer): Promise<void> {
    const { clock, deviceId, twins } = this.#options;
    while (this.#peer === peer && !peer.signal.aborted) {
      try {
        const isTaken = await peer.fetch((twin) => this.#inTurn(() => twins.take(deviceId, twin)));
        // Without it the peer is fetched from already, or wants none of this.
        if (!isTaken || this.#peer !== peer) return;
        this.#isFetched = true;
        this.#told();
        void this.#report();
        return;
      } catch (error) {
        this.#fail(errorText(error));
        await clock.sleep(AGAIN_MS, peer.signal).catch(() => {});
      }
    }
  }

  /** All that the cloud does not have, with one request for what came meanwhile. Never rejects. */
  async #report(): Promise<void> {
    const { clock, deviceId, twins } = this.#options;
    const peer = this.#peer;
    if (this.#isReporting || peer === undefined) return;
    this.#isReporting = true;
    try {
      while (this.#peer === peer && !peer.signal.aborted) {
        this.#isDue = false;
        const patch = await twins.unsent(deviceId);
        const body = patch === undefined ? undefined : JSON.stringify(patch);
        if (patch === undefined || body === undefined || body === this.#refused) {
          if (this.#isDue) continue;
          return;
        }
        const answer = await peer.ask(() => peer.link.report(Buffer.from(body)));
        if (answer !== undefined) await this.#inTurn(() => twins.sent(deviceId, patch));
        // What the peer refuses is not offered again on this connection.
        else if (!peer.signal.aborted) this.#refused = body;
      }
    } catch (error) {
      this.#fail(errorText(error));
      clock.after(AGAIN_MS, () => this.changed());
    } finally {
      this.#isReporting = false;
      // Another connection was made meanwhile.
      if (this.#peer !== peer) this.changed();
    }
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  #told(): void {
    for (const end of this.#waiting) end();
  }

  #fail(error: string): void {
    const { deviceId, telemetry } = this.#options;
    if (this.#stopping.signal.aborted) return;
    telemetry.emit('twin_not_synchronised', { key: deviceId, device: deviceId, error });
  }
}
