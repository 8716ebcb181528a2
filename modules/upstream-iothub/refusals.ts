// Why a hub does not want us, in words for a person. MQTT 3.1.1 tells little: a code when it refuses a connection, nothing
// when it ends one; AMQP answers to each token (contract/device-auth.md, section 7; contract/device-mqtt.md, section 3).

import { GatewayError, type Clock, type EndpointClosed, type ErrorCode, type FailureKind, type MqttClosed } from '#sdk';
import type { CbsAnswer } from './amqp-cbs.ts';
import type { HubIdentity } from './identity.ts';

/**
 * The error for a CONNACK that refuses (MQTT 3.1.1, 3.2.2.3).
 * @param clock that the token's time is by; undefined when the hub has taken another token of the same clock.
 */
export function connackError(reasonCode: number, identity: HubIdentity, clock: Clock | undefined): GatewayError {
  const { code, kind, text } = refusalOf(reasonCode, identity, clock);
  const who = `${identity.dialHost} refused device "${identity.deviceId}"`;
  return new GatewayError(code, `${who}: ${text} (code ${reasonCode}).`, {
    ...(kind !== undefined && { kind }),
    details: { reasonCode },
  });
}

/**
 * The error for a token that the hub does not take over AMQP.
 * @param clock as for `connackError`.
 */
export function tokenError(answer: CbsAnswer, identity: HubIdentity, clock: Clock | undefined): GatewayError {
  const { code, kind, text } = tokenRefusal(answer.status, clock);
  const told = answer.description.replaceAll(/\p{Cc}+/gu, ' ').slice(0, TEXT_CHARS);
  const who = `${identity.dialHost} refused device "${identity.deviceId}"`;
  return new GatewayError(code, `${who}: ${text} (${answer.status}${told === '' ? '' : ` ${told}`}).`, {
    ...(kind !== undefined && { kind }),
    details: { reasonCode: answer.status },
  });
}

function tokenRefusal(status: number, clock: Clock | undefined): Refusal {
  switch (status) {
    case 401:
      return keyRefusal(clock);
    case 403:
      return { code: 'GW_UNAUTHORIZED', text: 'the device is disabled there, or may not connect' };
    case 404:
      return { code: 'GW_UNAUTHORIZED', text: 'no such device' };
    case 429:
      return { code: 'GW_THROTTLED', text: 'it takes no more tokens now' };
    default:
      return { code: 'GW_PROTOCOL', text: 'it could not check the token' };
  }
}

/** Whether times can be trusted that are compared with those of others. */
export function isClockSet(clock: Clock): boolean {
  const quality = clock.quality();
  return quality === 'synced' || quality === 'rtc';
}

/** Texts of a hub are shown cut off. */
const TEXT_CHARS = 200;

interface Refusal {
  readonly code: ErrorCode;
  readonly kind?: FailureKind;
  readonly text: string;
}

function refusalOf(reasonCode: number, { sharedAccessKey }: HubIdentity, clock: Clock | undefined): Refusal {
  switch (reasonCode) {
    case 1:
      return { code: 'GW_PROTOCOL', kind: 'invalid', text: 'it does not speak MQTT 3.1.1, as Azure IoT Hub does' };
    case 3:
      // The service answers so for both (contract/device-auth.md, 7).
      return { code: 'GW_THROTTLED', text: 'the device is disabled there, or the hub is not available now' };
    case 2:
    case 4:
    case 5: {
      if (sharedAccessKey === undefined) {
        return { code: 'GW_UNAUTHORIZED', text: 'no such device, or its certificate is not the one registered there' };
      }
      return keyRefusal(clock);
    }
    default:
      return { code: 'GW_PROTOCOL', text: 'for a reason that MQTT 3.1.1 does not define' };
  }
}

/** A token that was made of a key. */
function keyRefusal(clock: Clock | undefined): Refusal {
  if (clock === undefined) return { code: 'GW_UNAUTHORIZED', text: 'no such device, or a wrong or revoked key' };
  if (isClockSet(clock)) {
    return { code: 'GW_UNAUTHORIZED', text: 'no such device, a wrong or revoked key, or a wrong clock here' };
  }
  // A board without a clock makes tokens of the past until it is told the time: try again soon.
  const why = `the clock here is not set (${clock.quality()}), and a token with a wrong time is refused`;
  const text = `${why}; else no such device, or a wrong or revoked key`;
  return { code: 'GW_UNAUTHORIZED', kind: 'transient', text };
}

/** A connection that the hub ends sooner than this did not satisfy it. */
const SHORT_LIVED_MS = 60_000;
/** So many in a row are no chance: whatever the hub has against us, it is left alone for longer and longer. */
const SHORT_LIVED_MAX = 3;

/** Says why connections ended; knows how often the hub has ended one soon. */
export function createClosedReasons(identity: HubIdentity): (why: MqttClosed, livedMs: number) => EndpointClosed {
  let shortLived = 0;
  return ({ reason, byPeer }, livedMs) => {
    if (byPeer !== true) return { kind: 'transient', reason };
    shortLived = livedMs < SHORT_LIVED_MS ? shortLived + 1 : 0;
    const text =
      `${identity.dialHost} ended the connection without saying why. A hub does so when it stops, when a limit or the quota of the day is ` +
      `used up, when device "${identity.deviceId}" was disabled, deleted or given another key, when another client ` +
      'connects with the same device id, or at a message that it does not take.';
    return { kind: shortLived >= SHORT_LIVED_MAX ? 'throttled' : 'transient', reason: text };
  };
}
