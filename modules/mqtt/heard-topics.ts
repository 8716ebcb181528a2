// Which topics of which broker the topics of a configuration take in, so that a loop with an endpoint is seen before it runs.

import { brokerUrl, type HeardTopics } from '#sdk';
import type { MqttConfig } from './config.ts';
import { compileTopic } from './topic-template.ts';

export function heardTopics({ connect, listen, listen_tls, listen_ws, topics, command }: MqttConfig): HeardTopics[] {
  const places =
    connect === undefined
      ? [listen, listen_tls, listen_ws].flatMap((at) => (at === undefined ? [] : [{ host: at.address, port: at.port }]))
      : [brokerUrl(connect.url)];
  const commands = command === undefined ? undefined : compileTopic(command.topic);
  return topics.flatMap(({ topic: template }, index) => {
    const topic = compileTopic(template);
    const takes = (name: string): boolean =>
      topic.match(name)?.['device_id'] !== undefined && commands?.match(name) === undefined;
    return places.map(({ host, port }) => ({ path: ['topics', index, 'topic'], host, port, takes }));
  });
}
