-- The decay of a weight over the time since, by the discount of a day.
CREATE OR REPLACE FUNCTION ailydian_faded(p_mass DOUBLE PRECISION, p_since TIMESTAMPTZ,
                                          p_discount DOUBLE PRECISION)
RETURNS DOUBLE PRECISION LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p_mass * power(p_discount, greatest(extract(epoch FROM now() - p_since), 0)::float8 / 86400)
$$;
CALL ailydian_build_rights('ailydian_faded', 'ailydian_app');
