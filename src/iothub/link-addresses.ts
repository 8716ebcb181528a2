// The AMQP link addresses of Azure IoT Hub and of its Event Hubs-compatible endpoint (contract/device-amqp.md, section 5;
// contract/service-06-amqp-service.md, section 1; contract/service-07-eventhubs-servicebus.md, sections 3 and 4).

import type { IdentityRef } from '../core/hub/identity.ts';

export type LinkAddress =
  | { readonly kind: 'cbs' }
  /** Telemetry of a device or module for a sender; inputs of a module for a receiver. */
  | { readonly kind: 'device-events' | 'device-commands' | 'device-methods' | 'device-twin'; readonly of: IdentityRef }
  | { readonly kind: 'device-feedback'; readonly of: IdentityRef }
  /** Service side: cloud-to-device messages are sent to it. */
  | { readonly kind: 'service-commands' | 'service-feedback' | 'service-file-notifications' }
  /** `messages/events…`: answered with a redirect. `rest` is what stands behind, such as `$management`. */
  | { readonly kind: 'redirected-events'; readonly rest: string }
  /** `$management` alone, or of a named event hub. */
  | { readonly kind: 'management'; readonly eventHub?: string }
  | {
      readonly kind: 'partition';
      readonly eventHub: string;
      readonly consumerGroup: string;
      /** As written: a number in decimal, if it is one. */
      readonly partition: string;
    }
  /** A sender's: an event hub or a partition of it. The built-in endpoint refuses both. */
  | { readonly kind: 'event-hub'; readonly eventHub: string; readonly partition?: string };

const DEVICE_LINKS: ReadonlyMap<
  string,
  'device-events' | 'device-commands' | 'device-methods' | 'device-twin' | 'device-feedback'
> = new Map([
  ['messages/events', 'device-events'],
  ['messages/devicebound', 'device-commands'],
  ['methods/devicebound', 'device-methods'],
  ['twin', 'device-twin'],
  ['messages/servicebound/feedback', 'device-feedback'],
]);

const SERVICE_LINKS: ReadonlyMap<string, 'service-commands' | 'service-feedback' | 'service-file-notifications'> =
  new Map([
    ['messages/devicebound', 'service-commands'],
    ['messages/servicebound/feedback', 'service-feedback'],
    ['messages/servicebound/filenotifications', 'service-file-notifications'],
  ]);

/**
 * Reads an address in any spelling: with or without a leading slash, absolute (`amqps://host[:port]/…`), fixed words in any
 * case, ids percent-encoded. Undefined for one that the service does not know.
 * @param ids `raw`: as the SDK for Node writes them, which does not encode ids.
 */
export function parseLinkAddress(address: string, ids: 'encoded' | 'raw' = 'encoded'): LinkAddress | undefined {
  const segments = segmentsOf(address, ids);
  if (segments === undefined) return undefined;
  const [first = '', ...rest] = segments;
  const words = segments.map((segment) => segment.toLowerCase());
  if (words.length === 1 && words[0] === '$cbs') return { kind: 'cbs' };
  if (words.length === 1 && words[0] === '$management') return { kind: 'management' };
  if (words[0] === 'devices') return deviceLink(segments, words);
  if (words[0] === 'messages') {
    const service = SERVICE_LINKS.get(words.join('/'));
    if (service !== undefined) return { kind: service };
    return words[1] === 'events' ? { kind: 'redirected-events', rest: segments.slice(2).join('/') } : undefined;
  }
  return first === '' ? undefined : eventHubLink(first, rest, words.slice(1));
}

/** Undefined when it is too long or its encoding is broken. */
function segmentsOf(address: string, ids: 'encoded' | 'raw'): readonly string[] | undefined {
  if (address.length > 2048) return undefined;
  const path = address.replace(/^amqps?:\/\/[^/]*/i, '');
  const segments = path.split('/').filter((segment) => segment !== '');
  if (ids === 'raw') return segments;
  try {
    return segments.map((segment) => decodeURIComponent(segment));
  } catch {
    return undefined;
  }
}

function deviceLink(segments: readonly string[], words: readonly string[]): LinkAddress | undefined {
  const [, deviceId, , moduleId] = segments;
  if (deviceId === undefined) return undefined;
  const isModule = words[2] === 'modules' && moduleId !== undefined;
  const kind = DEVICE_LINKS.get(words.slice(isModule ? 4 : 2).join('/'));
  if (kind === undefined) return undefined;
  return { kind, of: isModule ? { deviceId, moduleId } : { deviceId } };
}

function eventHubLink(eventHub: string, rest: readonly string[], words: readonly string[]): LinkAddress | undefined {
  if (rest.length === 0) return { kind: 'event-hub', eventHub };
  if (rest.length === 1 && words[0] === '$management') return { kind: 'management', eventHub };
  const [, second = '', , fourth = ''] = rest;
  if (rest.length === 2 && words[0] === 'partitions') return { kind: 'event-hub', eventHub, partition: second };
  if (rest.length === 4 && words[0] === 'consumergroups' && words[2] === 'partitions') {
    return { kind: 'partition', eventHub, consumerGroup: second, partition: fourth };
  }
  return undefined;
}

/** The device or module that a cloud-to-device message is addressed to: `/devices/{d}[/modules/{m}]/messages/devicebound`. */
export function parseCommandTarget(to: string): IdentityRef | undefined {
  const link = parseLinkAddress(to);
  return link?.kind === 'device-commands' ? link.of : undefined;
}

/** The `to` of a cloud-to-device message as devices see it. */
export function commandTarget(to: IdentityRef): string {
  const module = to.moduleId === undefined ? '' : `/modules/${encodeURIComponent(to.moduleId)}`;
  return `/devices/${encodeURIComponent(to.deviceId)}${module}/messages/deviceBound`;
}

/** What a device has links to; the first it sends to, the second it receives from, the others it does both. */
export type DeviceLinkPath = 'messages/events' | 'messages/devicebound' | 'methods/devicebound' | 'twin';

/** The address of a link of a device or module (contract/device-amqp.md, section 5). */
export function deviceLinkAddress({ deviceId, moduleId }: IdentityRef, path: DeviceLinkPath): string {
  const module = moduleId === undefined ? '' : `/modules/${encodeURIComponent(moduleId)}`;
  return `/devices/${encodeURIComponent(deviceId)}${module}/${path}`;
}
