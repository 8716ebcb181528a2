// Faults among the topics of a configuration: what comes in belongs to the first template that it fits, so a later one
// may never see anything.

import type { ConfigFault } from '#sdk';
import type { MqttConfig } from './config.ts';
import { compileTopic, type TopicTemplate } from './topic-template.ts';

interface Listed {
  readonly path: ConfigFault['path'];
  readonly topic: TopicTemplate;
}

export function topicFaults({
  topics,
  availability,
  command,
}: Pick<MqttConfig, 'topics' | 'availability' | 'command'>): ConfigFault[] {
  // In the order in which they are asked (configured-dialect.ts).
  const listed: Listed[] = [
    ...(command?.response_topic === undefined ? [] : [listedAt(['command', 'response_topic'], command.response_topic)]),
    ...availability.map(({ topic }, index) => listedAt(['availability', index, 'topic'], topic)),
    ...topics.map(({ topic }, index) => listedAt(['topics', index, 'topic'], topic)),
  ];
  const commands = command === undefined ? undefined : compileTopic(command.topic);
  return listed.flatMap(({ path, topic }, index): ConfigFault[] => {
    if (commands !== undefined && covers(commands, topic)) {
      const message =
        'is a topic of `command`: what comes there is taken for a command, so a device that publishes there is disconnected, and no value is taken in';
      return [{ path, message }];
    }
    const first = listed.slice(0, index).find((before) => covers(before.topic, topic));
    if (first === undefined) return [];
    const message = `never takes anything in: all of it goes to "${first.topic.template}" (${first.path.join('.')}), which is asked before`;
    return [{ path, message }];
  });
}

function listedAt(path: ConfigFault['path'], template: string): Listed {
  return { path, topic: compileTopic(template) };
}

/** A level that stands in no template. */
const ANY = '\u{10FFFD}';

/** Whether all that fits `inner` fits `outer` as well. */
function covers(outer: TopicTemplate, inner: TopicTemplate): boolean {
  const levels = inner.template.split('/').map((level) => (level === '+' ? ANY : level.replace(/\{[^{}]*\}/, ANY)));
  if (levels.at(-1) !== '#') return outer.match(levels.join('/')) !== undefined;
  // What covers one level and two covers every number of them: only # does.
  return [[ANY], [ANY, ANY]].every((rest) => outer.match([...levels.slice(0, -1), ...rest].join('/')) !== undefined);
}
