SELECT completion FROM progress
