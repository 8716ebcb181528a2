// One connection to a twin at the peer: requests until they are answered, and the twin until it has the version that was told.

import type { Clock } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { PeerTwin, TwinAnswer, TwinLink } from '../core/twin-link.ts';
import type { Random } from '../platform/random.ts';
import { Backoff } from './backoff.ts';
import { readTwin } from './twin-message.ts';

export interface TwinPeerOptions {
  readonly link: TwinLink;
  readonly clock: Clock;
  readonly random: Random;
  /** Ends all, beside the link's own end. */
  readonly signal: AbortSignal;
  /** Tells what could not be done. Must not throw. */
  readonly onFailed: (reason: string) => void;
}

const INITIAL_MS = 1000;
const CEILING_MS = 60_000;
/** Of one twin, until it has the version that was told. */
const FETCHES = 3;

export class TwinPeer {
  readonly link: TwinLink;
  /** Aborts when the connection or its user has ended. */
  readonly signal: AbortSignal;
  readonly #options: TwinPeerOptions;
  #newest = 0;
  #isFetching = false;

  constructor(options: TwinPeerOptions) {
    this.#options = options;
    this.link = options.link;
    this.signal = AbortSignal.any([options.link.signal, options.signal]);
  }

  /** The twin is being fetched: what is told meanwhile may be in it already. */
  get isFetching(): boolean {
    return this.#isFetching;
  }

  /** Desired properties of that version were told. */
  heardOf(version: number): void {
    this.#newest = Math.max(this.#newest, version);
  }

  /**
   * Fetches the twin, hands it to `take`, and does so again while a newer version was told meanwhile. Resolves whether `take`
   * had one; rejects as `take` does. While it is being fetched already: false.
   */
  async fetch(take: (twin: PeerTwin) => void | Promise<void>): Promise<boolean> {
    if (this.#isFetching) return false;
    this.#isFetching = true;
    try {
      for (let attempt = 0; attempt < FETCHES; attempt += 1) {
        const twin = await this.#get();
        if (twin === undefined) return false;
        await take(twin);
        if (twin.version >= this.#newest) break;
        // A change was told while it was on its way, or the peer answers by what it knew before.
        await this.#options.clock.sleep(INITIAL_MS, this.signal).catch(() => {});
      }
      return true;
    } finally {
      this.#isFetching = false;
    }
  }

  /** The answer of a peer that has one; undefined when the connection is gone, or it wants none of this. */
  async ask(request: () => Promise<TwinAnswer>): Promise<TwinAnswer | undefined> {
    const { clock, onFailed, random } = this.#options;
    const backoff = new Backoff({ initialMs: INITIAL_MS, ceilingMs: CEILING_MS, random });
    while (!this.signal.aborted) {
      let failure: string;
      let isFinal = false;
      try {
        const answer = await request();
        if (answer.status >= 200 && answer.status < 300) return answer;
        failure = `The peer answered ${answer.status}: ${Buffer.from(answer.body).toString().slice(0, 256)}`;
        isFinal = answer.status < 500 && answer.status !== 429;
      } catch (error) {
        failure = errorText(error);
      }
      if (this.signal.aborted) return undefined;
      onFailed(failure);
      if (isFinal) return undefined;
      await clock.sleep(backoff.next(), this.signal).catch(() => {});
    }
    return undefined;
  }

  async #get(): Promise<PeerTwin | undefined> {
    const answer = await this.ask(() => this.link.get());
    try {
      return answer && readTwin(answer.body);
    } catch (error) {
      this.#options.onFailed(errorText(error));
      return undefined;
    }
  }
}
