// When a Shelly of generation 2 is asked for its whole status. As it comes from the factory it tells by MQTT that it is there,
// and from then on changes only, which are "to overlay over a known status"
// (https://shelly-api-docs.shelly.cloud/gen2/General/Notifications); one with a battery tells all when it wakes.

import { LIMITS } from '#sdk';
import type { Arrival, Publish } from '../dialect.ts';
import { parseText } from '../json-value.ts';
import { wholeStatusRequest } from './shelly-rpc.ts';

/** Requests with one connection of a device: it may not have subscribed yet, or may not be allowed to answer. */
const TRIES = 5;
/** Of one that tells all by itself. */
const NEVER = -1;

export class StatusRequests {
  readonly #requester: string;
  /** How many more requests each device gets; one that was not heard yet has all. */
  readonly #left = new Map<string, number>();

  constructor(requester: string) {
    this.#requester = requester;
  }

  /** What to ask a device that says something. */
  heard([device = '', kind]: readonly string[], { payload, replayed }: Arrival): readonly Publish[] {
    const left = this.#left.get(device) ?? TRIES;
    if (left === NEVER) return [];
    if (kind !== 'online') return replayed ? [] : this.#ask(device, left);
    // It has connected, or we have: what was known may have changed.
    return parseText(payload) === 'true' ? this.#ask(device, TRIES) : [];
  }

  /** The device has told its whole status, asked or by itself. */
  told(device: string, isByItself: boolean): void {
    this.#set(device, isByItself ? NEVER : 0);
  }

  #ask(device: string, left: number): readonly Publish[] {
    return left > 0 && this.#set(device, left - 1) ? [wholeStatusRequest({ device, requester: this.#requester })] : [];
  }

  #set(device: string, left: number): boolean {
    if (!this.#left.has(device) && this.#left.size >= LIMITS.devices) return false;
    this.#left.set(device, left);
    return true;
  }
}
