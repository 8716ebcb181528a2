// A command as the answer to a device: its properties are headers, in the very spelling that the SDK for C looks for
// (contract/device-http.md, section 4).

import type { ServerResponse } from 'node:http';
import type { DeliveredCommand } from '#sdk';

const APPLICATION_PREFIX = 'iothub-app-';

/** Set on the response itself: Fastify would write the names in lower case. */
export function addCommandHeaders(response: ServerResponse, deviceId: string, command: DeliveredCommand): void {
  const { message } = command;
  const set = (name: string, value: string | undefined): void => {
    if (value !== undefined) response.setHeader(name, headerText(value));
  };
  response.setHeader('ETag', `"${command.lockToken}"`);
  set('iothub-messageid', message.messageId);
  set('iothub-correlationid', message.correlationId);
  set('iothub-userid', message.userId);
  set('iothub-to', `/devices/${encodeURIComponent(deviceId)}/messages/devicebound`);
  set('iothub-ack', message.ack);
  set('iothub-sequencenumber', String(command.sequenceNumber));
  set('iothub-deliverycount', String(command.deliveryCount));
  set('iothub-enqueuedtime', dateText(command.enqueuedTimeMs));
  set('iothub-expiry', dateText(command.expiresAtMs));
  set('ContentType', message.contentType);
  set('ContentEncoding', message.contentEncoding);
  for (const [name, value] of Object.entries(message.properties)) set(`${APPLICATION_PREFIX}${tokenText(name)}`, value);
}

/** As the service writes it: `12/09/2019 12:00:00 PM`, in UTC. */
export function dateText(wallMs: number): string {
  const iso = new Date(wallMs).toISOString();
  const hours = Number(iso.slice(11, 13));
  const clock = `${String(hours % 12 === 0 ? 12 : hours % 12).padStart(2, '0')}${iso.slice(13, 19)}`;
  return `${iso.slice(5, 7)}/${iso.slice(8, 10)}/${iso.slice(0, 4)} ${clock} ${hours < 12 ? 'AM' : 'PM'}`;
}

/** A header carries ASCII; what is none was sent over AMQP or MQTT and comes percent-encoded (RFC 9110, section 5.5). */
function headerText(value: string): string {
  return value.replaceAll(/[^\t\u0020-\u007e]+/gu, encoded);
}

function tokenText(name: string): string {
  return name.replaceAll(/[^!#$%&'*+\-.^_`|~0-9A-Za-z]+/gu, encoded);
}

/** Half of a surrogate pair has no UTF-8. */
function encoded(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}
