// A JSON envelope for bodies that pass through, since MQTT 3.1.1 has no place beside the body.

import { isoTime, type StoredMessage } from '#sdk';

const UTF8 = new TextDecoder('utf-8', { fatal: true });

/**
 * The bytes to publish: bodies made by Fieldpost as they are, since they carry device, time, epoch and seq themselves;
 * others as `{"device":…,"time":…,"epoch":…,"seq":…,"id":…,"properties":{…},"system":{…},"body":…}`. A body that is JSON
 * stands there as JSON, other text as a string, and bytes as `"body_base64"`.
 */
export function wrapBody(stored: StoredMessage): Uint8Array {
  const { message } = stored;
  if (message.stamps?.timeAt !== undefined) return message.body;
  const head = {
    device: message.deviceId,
    time: message.systemProperties.creationTimeUtc ?? isoTime(message.time.wallMs),
    epoch: stored.epoch,
    seq: stored.seq,
    id: stored.messageId,
    ...(Object.keys(message.properties).length > 0 && { properties: message.properties }),
    ...(Object.keys(message.systemProperties).length > 0 && { system: message.systemProperties }),
  };
  return Buffer.from(`${JSON.stringify(head).slice(0, -1)},${bodyMember(message.body)}}`);
}

function bodyMember(body: Uint8Array): string {
  let text: string;
  try {
    text = UTF8.decode(body);
  } catch {
    return `"body_base64":"${Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('base64')}"`;
  }
  return `"body":${isJson(text) ? text : JSON.stringify(text)}`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
