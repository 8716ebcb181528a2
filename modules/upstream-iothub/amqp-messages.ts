// Cloud-to-device messages of one identity over AMQP: a link that hands them out (contract/device-amqp.md, section 6). A message
// is settled when the device has answered. What is not settled when the link is closed is given back: it waits at the hub.

import {
  deviceLinkAddress,
  LIMITS,
  uuidText,
  type AmqpClientSession,
  type AmqpDelivery,
  type AmqpError,
  type AmqpId,
  type CommandMessage,
} from '#sdk';
import { LINK_PROPERTIES } from './client-name.ts';
import type { CloudMessage } from './cloud-message.ts';
import type { HubCommands } from './commands.ts';

export interface AmqpMessagesOptions {
  readonly session: AmqpClientSession;
  /** At the hub. */
  readonly deviceId: string;
  readonly apiVersion: string;
  readonly commands: Pick<HubCommands, 'message'>;
  readonly onClosed: (error: AmqpError | undefined) => void;
}

/** Under way at once; the hub keeps the others. */
const MESSAGES = 8;
/** A message is given back before its lock of 60 s ends (contract/device-semantics.md, section 2). */
const HOLD_MS = 45_000;
const REFUSED: AmqpError = {
  condition: 'amqp:not-allowed',
  description: 'The message is no command, has expired, or the device refused it.',
};

/** Returns what closes the link. */
export function openAmqpMessages({
  session,
  deviceId,
  apiVersion,
  commands,
  onClosed,
}: AmqpMessagesOptions): () => void {
  const life = new AbortController();
  const unsettled = new Set<AmqpDelivery>();

  async function take(delivery: AmqpDelivery): Promise<void> {
    const message = messageOf(delivery);
    if (message === undefined) {
      delivery.reject(REFUSED);
      return;
    }
    unsettled.add(delivery);
    try {
      const outcome = await commands.message(message, life.signal, HOLD_MS);
      if (outcome === 'done') delivery.accept();
      else if (outcome === 'waiting') delivery.release();
      else delivery.reject(REFUSED);
    } catch {
      // The link has ended before it began: the hub hands it out again.
      delivery.release();
    } finally {
      unsettled.delete(delivery);
    }
  }

  function end(): void {
    life.abort();
    unsettled.clear();
  }

  const link = session.openReceiver({
    address: deviceLinkAddress({ deviceId }, 'messages/devicebound'),
    credit: MESSAGES,
    maxMessageBytes: LIMITS.command_bytes + 64 * 1024,
    properties: { ...LINK_PROPERTIES, 'com.microsoft:api-version': apiVersion },
    onOpen: () => {},
    onClosed: (error) => {
      end();
      onClosed(error);
    },
    onDelivery: (delivery) => void take(delivery),
  });
  return () => {
    // Else the hub would hold them until their locks end.
    for (const delivery of unsettled) delivery.release();
    end();
    link.close();
  };
}

function messageOf({ message }: AmqpDelivery): CloudMessage | undefined {
  if (message?.body === undefined) return undefined;
  const { absoluteExpiryTimeMs: expiresAtMs, annotations, applicationProperties, body } = message;
  const { 'iothub-deliverycount': deliveryCount } = annotations;
  return {
    messageId: idText(message.messageId) ?? placeId(annotations),
    expiresAtMs,
    deliveryCount: typeof deliveryCount === 'number' ? deliveryCount : 0,
    property: (name) => {
      const value = applicationProperties[name];
      return typeof value === 'string' ? value : undefined;
    },
    body,
    content: () => contentOf(message, body),
  };
}

/** As it is handed on to a device that takes it itself. */
function contentOf(message: NonNullable<AmqpDelivery['message']>, body: Uint8Array): CommandMessage {
  const { applicationProperties, contentEncoding, contentType, userId } = message;
  const { 'iothub-ack': ack, ...properties } = applicationProperties;
  const [messageId, correlationId] = [idText(message.messageId), idText(message.correlationId)];
  return {
    body,
    properties: Object.fromEntries(Object.entries(properties).map(([name, value]) => [name, String(value)])),
    ...(messageId !== undefined && { messageId }),
    ...(correlationId !== undefined && { correlationId }),
    ...(userId !== undefined && { userId: Buffer.from(userId).toString() }),
    ...(contentType !== undefined && { contentType }),
    ...(contentEncoding !== undefined && { contentEncoding }),
    ack: ack === 'positive' || ack === 'negative' || ack === 'full' ? ack : 'none',
  };
}

function idText(id: AmqpId | undefined): string | undefined {
  if (id === undefined || typeof id === 'string') return id;
  if (typeof id === 'number') return String(id);
  return id.byteLength === 16 ? uuidText(id) : Buffer.from(id).toString('base64');
}

/** A message without an id is told by its place in the queue of the hub, when it comes again because its settlement was lost. */
function placeId(annotations: Readonly<Record<string, unknown>>): string | undefined {
  const { 'x-opt-sequence-number': number, 'iothub-enqueuedtime': enqueued } = annotations;
  if (typeof number !== 'number' || !(enqueued instanceof Date)) return undefined;
  return `${number}@${enqueued.getTime()}`;
}
