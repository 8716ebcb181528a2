// A back end that reads all partitions with `@azure/event-hubs`. Arguments: connection string, number of partitions. Told how many
// messages to expect, it reports when the last of them came, for each its age by the clock of the process that stamped it, and how
// many came again or under another identity than their own.

import { earliestEventPosition, EventHubConsumerClient, type ReceivedEventData } from '@azure/event-hubs';
import { onCommand, report } from '../support/child.ts';

/** What a busy back end takes: the default of 10 is for code that handles each event for long. */
const BATCH = 500;

const [connectionString = '', partitions = '4'] = process.argv.slice(2);
let seen = new Set<number>();
let latenciesMs: number[] = [];
let again = 0;
let foreign = 0;
let lastMs = 0;
let expected = Infinity;

function take({ body, systemProperties }: ReceivedEventData): void {
  const nowMs = performance.now();
  const bytes = body as Buffer;
  // The device's number, the message's, and when it was made (mqtt-load.ts).
  const key = bytes.readUInt32BE(0) * 2 ** 32 + bytes.readUInt32BE(4);
  if (seen.has(key)) {
    again += 1;
    return;
  }
  seen.add(key);
  lastMs = nowMs;
  latenciesMs.push(nowMs - bytes.readDoubleBE(8));
  if (systemProperties?.['iothub-connection-device-id'] !== `device-${bytes.readUInt32BE(0)}`) foreign += 1;
  reportWhenAll();
}

function reportWhenAll(): void {
  if (seen.size < expected) return;
  report({ originMs: performance.timeOrigin, endMs: lastMs, latenciesMs, again, foreign });
  seen = new Set();
  latenciesMs = [];
  again = foreign = 0;
  expected = Infinity;
}

const client = new EventHubConsumerClient('$Default', connectionString);
for (let partition = 0; partition < Number(partitions); partition += 1) {
  client.subscribe(
    String(partition),
    {
      processEvents(events) {
        events.forEach(take);
        return Promise.resolve();
      },
      processError(error) {
        process.stderr.write(`${error.message}\n`);
        return Promise.resolve();
      },
    },
    { startPosition: earliestEventPosition, maxBatchSize: BATCH, skipParsingBodyAsJson: true },
  );
}
onCommand((command) => {
  expected = (command as { readonly count: number }).count;
  reportWhenAll();
});
report({ ready: true });
