// The twin of one identity over AMQP: a pair of links in a session, requests on one, answers and what is desired on the other
// (contract/device-amqp.md, section 7).

import {
  deviceLinkAddress,
  encodeAmqpMessage,
  randomUuid,
  type AmqpClientSession,
  type AmqpDelivery,
  type AmqpError,
  type AmqpValue,
  type Clock,
  type DeviceId,
  type TwinAnswer,
  type TwinLink,
  type TwinReceiver,
} from '#sdk';
import { LINK_PROPERTIES } from './client-name.ts';
import { createTwinRequests } from './twin-requests.ts';

/** Whose twin it is on this side, and who wants it. */
export interface AmqpTwinOwner {
  readonly deviceId: DeviceId;
  readonly carries: TwinLink['carries'];
  readonly receiver: TwinReceiver;
}

export interface AmqpTwinOptions extends AmqpTwinOwner {
  readonly session: AmqpClientSession;
  /** At the hub. */
  readonly hubDeviceId: string;
  readonly apiVersion: string;
  /** Aborts when the session has ended. */
  readonly signal: AbortSignal;
  readonly onClosed: (error: AmqpError | undefined) => void;
  readonly clock: Clock;
}

const REQUESTS = 4;
const DELIVERIES = 16;
const MAX_TWIN_BYTES = 512 * 1024;
/** As the SDK for Node sends. */
const NO_BODY = Buffer.from(' ');

/** Opens the links, asks for what is desired, and hands the twin on. */
export function openAmqpTwin(options: AmqpTwinOptions): void {
  const { session, hubDeviceId, apiVersion, deviceId, carries, receiver, signal, onClosed, clock } = options;
  const requests = createTwinRequests(clock);
  const link = {
    address: deviceLinkAddress({ deviceId: hubDeviceId }, 'twin'),
    // By it the hub finds the two that belong together.
    properties: {
      ...LINK_PROPERTIES,
      'com.microsoft:api-version': apiVersion,
      'com.microsoft:channel-correlation-id': `twin:${randomUuid()}`,
    },
    onClosed,
  };
  let isSubscribed = false;

  const ask = (annotations: Readonly<Record<string, AmqpValue>>, body: Uint8Array): Promise<TwinAnswer> =>
    requests.ask(signal, (correlationId) => {
      if (sender.capacity === 0) return false;
      sender.send(encodeAmqpMessage({ annotations, properties: { correlationId }, data: body }));
      return true;
    });
  const twin: TwinLink = {
    deviceId,
    signal,
    carries,
    get: () => ask({ operation: 'GET' }, NO_BODY),
    report: (patch) => ask({ operation: 'PATCH', resource: '/properties/reported' }, patch),
  };

  /** Once there is credit; a hub that says no is asked anew with the next session. */
  async function subscribe(): Promise<void> {
    if (isSubscribed || sender.capacity === 0) return;
    isSubscribed = true;
    try {
      const { status } = await ask({ operation: 'PUT', resource: '/notifications/twin/properties/desired' }, NO_BODY);
      if (status < 300) receiver.onLink(twin);
      else onClosed({ condition: 'amqp:not-allowed', description: `The hub answered ${status} for the twin.` });
    } catch {
      // The session has ended, or the hub does not answer.
      if (!signal.aborted) onClosed(undefined);
    }
  }

  function take(delivery: AmqpDelivery): void {
    const { annotations, body = new Uint8Array(0), correlationId } = delivery.message ?? {};
    delivery.accept();
    // A desired patch is no answer to anything.
    if (correlationId === undefined) receiver.onDesired(twin, body, versionOf(body));
    else requests.answered(String(correlationId), { status: Number(annotations?.['status']), body });
  }

  const sender = session.openSender({
    ...link,
    window: REQUESTS,
    onOpen: () => void subscribe(),
    onCapacity: () => void subscribe(),
    onAnswer: () => {},
  });
  session.openReceiver({
    ...link,
    credit: DELIVERIES,
    maxMessageBytes: MAX_TWIN_BYTES,
    onOpen: () => {},
    onDelivery: take,
  });
}

/** It stands in the patch alone; 0, which is older than any, where it cannot be read. */
function versionOf(patch: Uint8Array): number {
  try {
    const { $version: version } = JSON.parse(Buffer.from(patch).toString('utf8')) as { readonly $version?: unknown };
    return typeof version === 'number' ? version : 0;
  } catch {
    return 0;
  }
}
