// The filter by which a client of Event Hubs says where to begin (contract/service-07-eventhubs-servicebus.md, section 4).

import type { EventPosition } from '../core/hub/messaging.ts';
import { iotHubError } from './errors.ts';

const SELECTOR = /^\s*amqp\.annotation\.(x-opt-[a-z-]+)\s*(>=?)\s*'?(-1|@latest|\d{1,16})'?\s*$/;

/**
 * `amqp.annotation.x-opt-offset > '-1'` and its like.
 * @param selector absent: from the earliest event on.
 * @throws GW_IOTHUB ArgumentInvalid.
 */
export function parseEventsSelector(selector: string | undefined): EventPosition {
  if (selector === undefined || selector === '') return { kind: 'earliest' };
  const [, name, operator, text = ''] = SELECTOR.exec(selector) ?? [];
  const inclusive = operator === '>=';
  const value = Number(text);
  const isNumber = /^\d+$/.test(text) && Number.isSafeInteger(value);
  switch (name) {
    case 'x-opt-offset':
      if (text === '@latest') return { kind: 'latest' };
      if (text === '-1') return { kind: 'earliest' };
      if (isNumber) return { kind: 'offset', value, inclusive };
      break;
    case 'x-opt-sequence-number':
      if (text === '-1') return { kind: 'earliest' };
      if (isNumber) return { kind: 'sequence', value, inclusive };
      break;
    case 'x-opt-enqueued-time':
    // Of older clients.
    case 'x-opt-enqueuedtimeutc':
      // The contract's time is exclusive; one millisecond less makes it inclusive.
      if (isNumber) return { kind: 'time', afterMs: inclusive ? value - 1 : value };
      break;
    default:
  }
  throw iotHubError('ArgumentInvalid', `The filter "${selector.slice(0, 120)}" names no position in the events.`);
}
