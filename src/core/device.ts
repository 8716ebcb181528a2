// Identity of leaf devices and of the gateway.

import { GatewayError } from './errors.ts';

declare const deviceIdBrand: unique symbol;

/** A leaf device's (or the gateway's) id, unique over all adapters. Checked by `parseDeviceId`. */
export type DeviceId = string & { readonly [deviceIdBrand]: true };

/** The most characters an id may have (Azure IoT Hub, identity registry: device id). */
export const DEVICE_ID_MAX_CHARS = 128;

// Azure IoT Hub's rule (ASCII 7-bit alphanumeric plus - . % _ * ? ! ( ) , : = @ $ ') without / + #, which have a
// meaning in MQTT topics.
const DEVICE_ID_PATTERN = /^[A-Za-z0-9\-.%_*?!(),:=@$']{1,128}$/;

export function isDeviceId(text: string): text is DeviceId {
  return DEVICE_ID_PATTERN.test(text);
}

/** @throws GatewayError GW_MESSAGE_INVALID when the text breaks the rule. */
export function parseDeviceId(text: string): DeviceId {
  if (isDeviceId(text)) return text;
  throw new GatewayError(
    'GW_MESSAGE_INVALID',
    `"${text.slice(0, 140)}" is not a device id: 1 to ${DEVICE_ID_MAX_CHARS} letters, digits or - . % _ * ? ! ( ) , : = @ $ ' (no space, / + #).`,
  );
}

/** What a leaf device is doing, as shown to people. `unknown` until the first exchange. */
export type DeviceState = 'unknown' | 'good' | 'degraded' | 'offline';

/** Whether a device answers, be it not all that it is asked: then commands are delivered to it. */
export function isReachable(state: DeviceState | undefined): boolean {
  return state === 'good' || state === 'degraded';
}
