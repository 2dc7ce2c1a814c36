-- Deleting a policy asks for the keys that use it, while every other writer waits; users are asked
-- for by the keys that they are limited to. Without these both read every row there is.
CREATE INDEX configuration_items_policy_id ON configuration_items ((document ->> 'policy_id'))
    WHERE kind = 'key';
CREATE INDEX configuration_items_key_ids ON configuration_items
    USING gin ((document -> 'key_ids'))
    WHERE kind = 'user';
