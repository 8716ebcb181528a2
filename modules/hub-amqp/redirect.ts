// `messages/events` of the hub itself: readers are sent on to the Event Hubs-compatible endpoint, which is the same listener
// (contract/service-06, section 6).

import type { AmqpError, HubInfo } from '#sdk';

/** Clients look for exactly this text in the address, whatever port they came to. */
const PORT = 5671;

export function redirectError(hostName: string, { eventHubName }: HubInfo, rest: string): AmqpError {
  const path = rest === '' ? '$management' : rest;
  return {
    condition: 'amqp:link:redirect',
    description: 'Events are read from the Event Hubs-compatible endpoint.',
    info: {
      hostname: hostName,
      'network-host': hostName,
      port: PORT,
      address: `amqps://${hostName}:${PORT}/${eventHubName}/${path}`,
    },
  };
}
